"""Rename the weights of Meta's DINOv3 release to timm's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from proteus.checkpoints.errors import CheckpointError
from proteus.checkpoints.keys import register_key_converter

# A bias of queries and values below this changes no feature.
_ZERO = 1e-6
# Of training, or derived from the architecture.
_UNUSED = ("mask_token", "rope_embed.", "local_cls_norm.", "norms.")
_VIT = (
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_CONVNEXT = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"^norm\.", "head.norm."),
)


@register_key_converter
def dinov3_keys(own: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a DINOv3 ViT's or ConvNeXt's weights; other weights are returned unchanged.

    Args:
        own: Names of timm's model.
        state: Weights of the file.

    Raises:
        CheckpointError: The model has no bias of queries and values, and the file's is not zero.
    """
    names = set(own)
    if "storage_tokens" in state and "reg_token" in names:
        table: tuple[tuple[str, str], ...] = _VIT
        state = _split_biases(names, state)
    elif "downsample_layers.0.0.weight" in state and "stem.0.weight" in names:
        table = _CONVNEXT
    else:
        return dict(state)
    renamed = {}
    for key, value in state.items():
        if not key.startswith(_UNUSED):
            for pattern, replacement in table:
                key = re.sub(pattern, replacement, key)
            renamed[key] = value
    return renamed


def _split_biases(names: set[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the bias of queries, keys and values; the keys' is masked to zero, and most models have none at all."""
    split = {key: value for key, value in state.items() if not key.endswith(("qkv.bias", "qkv.bias_mask"))}
    for key in state:
        if not key.endswith("qkv.bias"):
            continue
        stem = key.removesuffix("qkv.bias")
        query, _, value = state[key].chunk(3)
        if f"{stem}q_bias" in names:
            split |= {f"{stem}q_bias": query, f"{stem}v_bias": value}
        elif max(float(query.abs().max()), float(value.abs().max())) > _ZERO:
            source = getattr(state, "source", "the checkpoint")
            raise CheckpointError(
                f"{source} has biases of queries and values ({key}) and the model has none: use timm's architecture "
                "with _qkvb at the end of its name"
            )
    return split
