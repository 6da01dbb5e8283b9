"""The same weights under the names that different projects give them.

timm's names are the ones used inside; the others are recognised by a key that only they have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# What our own and other training checkpoints put before a backbone's names, longest first.
_PREFIXES = ("module.student.vit.", "student.vit.", "student.backbone.", "backbone.", "module.", "vit.")

# transformers' Dinov2Model -> timm: as its files name the weights, and as version 5 names them in memory.
_HUGGING_FACE = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.attention\.(output\.dense|o_proj)\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.mlp\.(weights_out|down_proj)\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])\.", r"blocks.\1.\2."),
    (r"^layernorm\.", "norm."),
)
# What timm keeps in one matrix, in timm's order.
_HUGGING_FACE_PARTS = (
    (("attention.attention.query", "attention.attention.key", "attention.attention.value"), "attn.qkv"),
    (("attention.q_proj", "attention.k_proj", "attention.v_proj"), "attn.qkv"),
    (("mlp.gate_proj", "mlp.up_proj"), "mlp.fc1"),
)
# Meta's DINOv2 release -> timm.
_META = (
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)


def to_timm_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT's weights to timm's names, whatever project they come from.

    Known forms: timm's own; Meta's DINOv2 ``.pth``; ``transformers``' ``Dinov2Model``; our exported backbones and
    training checkpoints (the student is taken, heads are left behind). Unknown names pass unchanged, so that
    :func:`load_strictly` can name them.
    """
    state = _strip_prefix(state)
    if "embeddings.cls_token" in state:
        state = _rename(_join_parts(state), _HUGGING_FACE)
    return _rename(state, _META)


def _strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        inside = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if "cls_token" in inside or "embeddings.cls_token" in inside:
            # The mask token belongs to our wrapper, one level above timm's model.
            outer = state.get(prefix.removesuffix("vit.") + "mask_token")
            return inside if outer is None else {**inside, "mask_token": outer}
    return dict(state)


def _join_parts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    joined = dict(state)
    for parts, name in _HUGGING_FACE_PARTS:
        first = re.compile(rf"^encoder\.layer\.(\d+)\.{re.escape(parts[0])}\.(weight|bias)$")
        for match in filter(None, map(first.match, state)):
            keys = [match[0].replace(parts[0], part) for part in parts]
            if all(key in state for key in keys):
                joined[f"blocks.{match[1]}.{name}.{match[2]}"] = torch.cat([joined.pop(key) for key in keys])
    return joined


def _rename(state: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed
