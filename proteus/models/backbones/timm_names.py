"""timm's names of architectures: checked, and turned into configs of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model

from proteus.checkpoints.detect_arch import detect_arch
from proteus.models.backbones.openmmlab import build_backbone
from proteus.models.backbones.plain_vit import ARCHITECTURES
from proteus.structures import DataError, UserError


def check_arch(option: str, arch: str) -> None:
    """Check a name of ours or timm's, and its tag.

    Args:
        option: Option or name that the user wrote, for messages.
        arch: The name, with or without a tag.

    Raises:
        DataError: Neither we nor timm have the model, or timm does not know the tag; the message lists the nearest
            names, or the tags.
    """
    if arch not in ARCHITECTURES and not is_model(arch):
        near = ", ".join(get_close_matches(arch, [*ARCHITECTURES, *timm.list_models()], n=3))
        raise DataError(f"{option}: no model of ours or timm's has the name '{arch}'; nearest: {near or 'none'}")
    try:
        get_pretrained_cfg(arch)
    except RuntimeError as error:  # of the tag
        tags = ", ".join(timm.list_pretrained(f"{arch.split('.')[0]}.*")) or "none"
        raise DataError(f"{option}: timm does not know this tag; it has: {tags}") from error


def check_build(option: str, config: Mapping[str, Any]) -> None:
    """Build a backbone without memory, and compare the file that its config names.

    Args:
        option: Option or name that the user wrote, for messages.
        config: Config of the backbone.

    Raises:
        CheckpointError: The file holds another model's weights.
        DataError: It cannot be built for images of this size.
    """
    try:
        with torch.device("meta"):
            build_backbone(dict(config))
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise DataError(f"{option}, --img-size {config['img_size']}: {' '.join(str(error).split())}") from error


def timm_config(name: str) -> dict[str, Any]:
    """Make the config of a model of ours or timm's, without weights and image size.

    Our ``ViT`` is preferred where it can build the model, since it gives the features of several blocks and takes
    masks.

    Args:
        name: Name of the model, with or without a tag.
    """
    arch = name.split(".")[0]
    if arch in ARCHITECTURES:
        return {"type": "ViT", "arch": arch, "patch_size": 16 if arch == "clip-base" else 14}
    with torch.device("meta"):
        model: Any = timm.create_model(arch, num_classes=0)
    shape = detect_arch(model.state_dict())
    plain = type(model).__name__ == "VisionTransformer" and model.cls_token is not None and model.pos_embed is not None
    # Our ViT has a position for the cls token unless there are registers; DeiT III has neither.
    same_positions = plain and shape and model.no_embed_class == (shape.registers > 0)
    if not (same_positions and shape and model.global_pool == "token"):
        return {"type": "TimmBackbone", "arch": arch}
    config: dict[str, Any] = {"type": "ViT", "arch": arch, "patch_size": shape.patch, "reg_tokens": shape.registers}
    config["init_values"] = 1.0 if shape.layer_scale else None
    return config | interpolation("dinov2" in name, shape.registers)


def interpolation(dinov2: bool, registers: int) -> dict[str, Any]:
    """Return how a ViT's authors fit positions to another grid, as arguments of ``ViT``.

    DINOv2 adds 0.1 to the size of the new grid, but its models with registers do not, and they resize with
    antialiasing (``dinov2/hub/backbones.py``). Other authors resize plainly.
    """
    if dinov2 and registers:
        return {"interpolate_antialias": True, "interpolate_offset": 0.0}
    return {} if dinov2 else {"interpolate_offset": 0.0}
