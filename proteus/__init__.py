"""Proteus: distil vision foundation models into small backbones on ImageNet-sized data."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from proteus import compat as compat  # first: patches that later imports need
from proteus.version import __version__

# Imported at first use, since these modules are slow to import.
_LAZY = {
    "embed": "proteus.apis.embed",
    "export": "proteus.apis.export",
    "evaluate": "proteus.apis.evaluate_by_name",
    "list_models": "proteus.models.zoo",
    "load_backbone": "proteus.models.zoo",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'proteus' has no attribute {name!r}")
