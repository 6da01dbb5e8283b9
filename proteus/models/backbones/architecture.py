"""Architecture and weights of a backbone under the names of the library that it comes from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from proteus.models.backbones.openmmlab import AdaptedBackbone


def architecture_of(backbone: Any) -> tuple[str, dict[str, Any]]:
    """Return the architecture of a backbone as a weight file describes it.

    Args:
        backbone: ``ViT``, ``TimmBackbone`` or another class with ``timm_args``; or an ``AdaptedBackbone``.

    Returns:
        Name in timm, or ``mmpretrain.NAME`` or ``mmseg.NAME``; and the arguments of its constructor.
    """
    if isinstance(backbone, AdaptedBackbone):
        arguments = dict(backbone.config)
        architecture, scope = arguments.pop("type"), arguments.pop("_scope_", None)
        if isinstance(architecture, type):  # of a pure-Python config
            architecture, scope = architecture.__name__, architecture.__module__.partition(".")[0]
        if "." not in architecture:
            architecture = f"{scope}.{architecture}"
        arguments.pop("init_cfg", None)  # initial weights
    else:
        arguments = dict(backbone.timm_args)
        architecture = arguments.pop("model_name")
    return architecture, arguments


def weights_of(backbone: Any) -> dict[str, Tensor]:
    """Return the weights of a backbone under the names of timm, or of the toolbox that it comes from."""
    return backbone.guest.state_dict() if isinstance(backbone, AdaptedBackbone) else backbone.timm_state()
