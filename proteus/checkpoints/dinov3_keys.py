"""Recognise DINOv3, and rename the weights of Meta's release and of ``transformers`` to timm's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from proteus.checkpoints.detect_arch import Shape
from proteus.checkpoints.errors import CheckpointError
from proteus.checkpoints.keys import register_key_converter, to_timm_keys

SIZES = {(192, False): "tiny", (384, False): "small", (384, True): "small_plus", (768, False): "base"}
SIZES |= {(1024, False): "large", (1280, True): "huge_plus", (4096, True): "7b"}
"""timm's names of sizes, by the width of the tokens and whether the MLPs are gated."""

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
    names, source = set(own), getattr(state, "source", "the checkpoint")
    if "reg_token" in names and any(key.endswith("embeddings.register_tokens") for key in state):
        state = {key: value for key, value in to_timm_keys(state).items() if key != "mask_token"}
    if "reg_token" in names and ("storage_tokens" in state or "blocks.0.attn.q_bias" in state):
        table: tuple[tuple[str, str], ...] = _VIT
        state = _split_biases(names, state, source)
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


def dinov3_arch(shape: Shape, state: Mapping[str, Tensor]) -> str | None:
    """Return timm's name of a DINOv3 ViT; None for a size that timm does not have.

    Args:
        shape: Architecture of the weights, of the family DINOv3.
        state: The weights under timm's names or Meta's.
    """
    size = SIZES.get((shape.width, shape.swiglu))
    if size is None:
        return None
    # timm has the smallest with biases only, from EUPE.
    biased = size == "tiny" or any(_has_effect(parts) for _, parts in _biases(state))
    return f"vit_{size}_patch16_dinov3{'_qkvb' if biased else ''}"


def _split_biases(names: set[str], state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Split the bias of queries, keys and values; the keys' is masked to zero, and most models have none at all."""
    ends = ("qkv.bias", "qkv.bias_mask", ".q_bias", ".v_bias")
    split = {key: value for key, value in state.items() if not key.endswith(ends)}
    for key, parts in _biases(state):
        if names >= parts.keys():
            split |= parts
        elif _has_effect(parts):
            raise CheckpointError(
                f"{source} has biases of queries and values ({key}) and the model has none: use timm's architecture "
                "with _qkvb at the end of its name"
            )
    return split


def _biases(state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each bias of queries and values, and its parts under timm's names."""
    for key, value in state.items():
        stem = key.removesuffix("qkv.bias")
        if key != stem:
            query, _, own = value.chunk(3)
            yield key, {f"{stem}q_bias": query, f"{stem}v_bias": own}
        elif key.endswith((".q_bias", ".v_bias")):
            yield key, {key: value}


def _has_effect(parts: Mapping[str, Tensor]) -> bool:
    return any(float(part.abs().max()) > _ZERO for part in parts.values())
