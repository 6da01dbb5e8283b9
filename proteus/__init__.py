"""Proteus: distil vision foundation models into small backbones on your images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from proteus import compat as compat  # first: patches that later imports need
from proteus.version import __version__

if TYPE_CHECKING:
    from proteus.apis.distill import distill
    from proteus.apis.embed import embed
    from proteus.apis.evaluate_by_name import evaluate
    from proteus.apis.export import export
    from proteus.apis.slice import slice
    from proteus.config.load import load_config
    from proteus.models.zoo import list_models, load_backbone

# The public functions. Imported at first use, since these modules are slow to import.
_LAZY = {
    "distill": "proteus.apis.distill",
    "embed": "proteus.apis.embed",
    "export": "proteus.apis.export",
    "evaluate": "proteus.apis.evaluate_by_name",
    "list_models": "proteus.models.zoo",
    "load_backbone": "proteus.models.zoo",
    "load_config": "proteus.config.load",
    "slice": "proteus.apis.slice",
}

__all__ = [
    "__version__",
    "distill",
    "embed",
    "evaluate",
    "export",
    "list_models",
    "load_backbone",
    "load_config",
    "slice",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'proteus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
