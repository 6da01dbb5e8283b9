"""Build timm's plain vision transformers by name, with errors that name what fits."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer

ARCHITECTURES = {
    "tiny": "vit_tiny_patch16_224",
    "small": "vit_small_patch14_dinov2",
    "base": "vit_base_patch14_dinov2",
    "large": "vit_large_patch14_dinov2",
    "giant": "vit_giant_patch14_dinov2",
    # OpenAI's: a LayerNorm before the blocks, QuickGELU, no bias of patches, LayerNorm eps 1e-5.
    "clip-base": "vit_base_patch16_clip_quickgelu_224",
    "clip-large": "vit_large_patch14_clip_quickgelu_224",
}
"""Short names of architectures, and timm's names of them."""


def create_vit(arch: str, model_name: str, **options: Any) -> VisionTransformer:
    """Build a model with random weights and without a classifier.

    Args:
        arch: Name for messages, as the user wrote it.
        model_name: Name in timm.
        options: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: The name is unknown, the model is not a plain ViT, or its heads do not divide its width.
    """
    if not timm.is_model(model_name):
        near = get_close_matches(arch, [*ARCHITECTURES, *timm.list_models("vit_*")], n=3)
        ours, nearest = ", ".join(ARCHITECTURES), ", ".join(near) or "none"
        raise ValueError(f"arch={arch!r} is no ViT of ours ({ours}) or timm's; nearest: {nearest}")
    if torch.get_default_device().type == "meta":  # there are no values, and on that device to draw them is slow
        options["weight_init"] = "skip"
    try:
        model = timm.create_model(model_name, pretrained=False, num_classes=0, dynamic_img_size=True, **options)
    except TypeError as error:  # another family's constructor does not know a ViT's arguments
        raise ValueError(f"arch={arch!r} is not a plain ViT: {error}") from error
    except AssertionError as error:
        raise ValueError(_unequal_heads(arch, model_name, options)) from error
    if not isinstance(model, VisionTransformer) or model.cls_token is None or model.pos_embed is None:
        raise ValueError(
            f"arch={arch!r} is a {type(model).__name__} without learnt positions and cls token: not a plain ViT"
        )
    return model


def _unequal_heads(arch: str, model_name: str, options: Mapping[str, Any]) -> str:
    """Say that the heads do not divide the width, with the numbers of the architecture where none were given."""
    own: Any = None
    if not {"embed_dim", "num_heads"} <= set(options):
        with torch.device("meta"):
            own = timm.create_model(model_name, pretrained=False, num_classes=0)
    width = options.get("embed_dim") or own.embed_dim
    heads = options.get("num_heads") or own.blocks[0].attn.num_heads
    given = "" if "num_heads" in options else f", the heads of arch={arch!r},"
    fitting = [str(count) for count in range(1, width + 1) if width % count == 0 and width // count >= 16] or ["1"]
    return f"num_heads={heads}{given} does not divide embed_dim={width}: write num_heads={', '.join(fitting[-3:])}"
