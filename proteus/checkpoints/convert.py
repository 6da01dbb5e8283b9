"""Convert a ViT's weights between the naming schemes of different projects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from proteus.checkpoints import key_mappings
from proteus.checkpoints.description import Description, read_description
from proteus.checkpoints.detect_arch import Shape, detect_arch
from proteus.checkpoints.errors import CheckpointError, prefix_checkpoint_errors
from proteus.checkpoints.export import check_written, export_backbone
from proteus.checkpoints.key_mappings import Row, to_theirs
from proteus.checkpoints.keys import CLASSIFIER, to_timm_keys
from proteus.checkpoints.load import read_state_dict
from proteus.checkpoints.paths import locate
from proteus.checkpoints.usage import usage
from proteus.utils import atomic_path
from proteus.utils.text import printable

FORMS = ("timm", "dinov2", "hf", "mmpretrain", "mmseg", "mmseg-vit")
"""Naming schemes that can be written."""
_CHECKED = ("blocks.", "dist_token")
_PART = re.compile(r"blocks\.\d+\.((norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)|ls[12]\.gamma)")


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        shape: Architecture of the weights.
        usage: Code that builds a matching model in the target project.
        notes: Remarks for users of the file.
    """

    shape: Shape
    usage: str
    notes: tuple[str, ...]


def convert(source: str | Path, target: str | Path, form: str) -> Conversion:
    """Write the backbone inside a weight file under another project's names.

    Values are copied bit by bit, with two exceptions. A DINOv2 model with registers has a position embedding for its
    cls token, and timm's has none: ``timm`` adds it to the cls token (the same model), and ``dinov2`` and ``hf`` then
    write zeros for it. mmsegmentation's ``VisionTransformer`` has no LayerScale: ``mmseg-vit`` multiplies it into the
    preceding layer (the same model, up to rounding). A mask token is kept, except in ``mmseg-vit``; a classifier is
    dropped.

    The source's description (architecture, arguments, mean, std, teacher) is copied to a ``.safetensors``.

    Args:
        source: Any file that :func:`read_state_dict` reads.
        target: ``.safetensors``, or ``.pth`` for tools that read nothing else.
        form: One of :data:`FORMS`.

    Raises:
        CheckpointError: The source holds no ViT, a ViT that the target scheme has no names for, or weights that are not
            floating point; or source and target are the same file.
        FullDiskError: The disk is full; an existing file is unchanged.
    """
    target = Path(target)
    if target.suffix not in (".safetensors", ".pth"):
        raise CheckpointError(f"{target}: write a name that ends in .safetensors or .pth")
    if form not in FORMS:
        raise CheckpointError(f"unknown naming scheme {form!r}; choose from: {', '.join(FORMS)}")
    file = locate(source)
    if os.path.realpath(target.expanduser()) == os.path.realpath(file):
        raise CheckpointError(f"{target} is the source file; name another")
    description = read_description(file) or Description()
    state = to_timm_keys(read_state_dict(source))
    state = {key: value for key, value in state.items() if key not in CLASSIFIER}
    if "storage_tokens" in state:
        raise CheckpointError(
            f"{source} has the names of Meta's DINOv3, which are not converted: load it as it is, with --arch and its "
            "name in timm, such as vit_small_patch16_dinov3"
        )
    shape = detect_arch(state)
    if shape is None:
        raise CheckpointError(f"{source} holds {len(state)} tensors and no ViT that could be renamed")
    odd = next((key for key, value in state.items() if not value.is_floating_point()), None)
    if odd is not None:
        raise CheckpointError(f"{source}: {odd} is of {state[odd].dtype}, and the weights of a ViT are floating point")
    with prefix_checkpoint_errors(str(source)):
        renamed = from_timm_keys(state, form)
    arguments = dict(description.arguments)
    if form == "mmseg-vit" and description.architecture is not None:
        arguments["init_values"] = 0.0  # LayerScale is part of the layers now; timm takes None for its own default
    about = replace(description, arguments=arguments, converted_to=form, converted_from=printable(file.name, 200))
    if target.suffix == ".safetensors":
        export_backbone(renamed, target, about.to_json())
    else:
        check_written(renamed, target)
        # With a file object, a full disk raises an OSError.
        with atomic_path(target) as temporary, temporary.open("wb") as opened:
            torch.save({key: value.contiguous() for key, value in renamed.items()}, opened)
    return Conversion(shape, usage(shape, form, state, description), tuple(_notes(shape, form, target, description)))


def _notes(shape: Shape, form: str, target: Path, description: Description) -> Iterator[str]:
    if shape.mask_token and form == "timm":
        yield "the mask token was kept; timm's model has none: drop 'mask_token' before load_state_dict"
    if form == "mmseg":
        yield "mmseg's MAE ignores the last norm; its VisionTransformer has other names: write them with --to mmseg-vit"
    if form == "mmseg-vit" and shape.layer_scale:
        yield "LayerScale was multiplied into attn.proj and mlp.fc2, since mmseg's VisionTransformer has none"
    if target.suffix == ".pth" and description.mean and description.std:
        yield f"a .pth file cannot carry the statistics of the images: mean={description.mean}, std={description.std}"


def from_timm_keys(state: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    """Rename weights from timm's names, as :func:`to_timm_keys` returns them, to those of another project.

    Raises:
        CheckpointError: ``form`` is not in :data:`FORMS`, or has no names for such a model.
    """
    shape = detect_arch(state)
    if shape is None:
        raise CheckpointError("these weights are not a ViT with timm's names; rename them with to_timm_keys first")
    if form == "timm":
        return _without_cls_position(state, shape)
    _refuse("pos_embed" not in state, form, "a ViT without a position embedding, such as DINOv3", "timm")
    odd = next((key for key in state if key.startswith(_CHECKED) and not _PART.fullmatch(key)), "")
    _refuse(bool(odd), form, printable(odd, 100), "timm")
    if shape.registers:
        state = _with_cls_position(state, shape)
    if form == "dinov2":
        _refuse(shape.pre_norm, form, "a CLIP tower's LayerNorm before the first block", "timm, hf or mmpretrain")
        return to_theirs(state, key_mappings.META + (key_mappings.META_SWIGLU if shape.swiglu else ()))
    if form == "hf":
        return _hugging_face(state, shape)
    if form in ("mmpretrain", "mmseg", "mmseg-vit"):
        _refuse(shape.registers > 0, form, "register tokens", "timm, dinov2 or hf")
        if form == "mmseg-vit":
            _refuse(shape.swiglu, form, "gated MLPs", "timm, dinov2, hf or mmpretrain")
            plain = _without_layer_scale({key: value for key, value in state.items() if key != "mask_token"})
            # First match wins: attention and the last norm have different names here.
            return to_theirs(plain, key_mappings.MMSEG_VIT + key_mappings.OPENMMLAB + key_mappings.OPENMMLAB_MLP)
        own = key_mappings.MMPRETRAIN if form == "mmpretrain" else key_mappings.MMSEG
        mlp = key_mappings.OPENMMLAB_SWIGLU if shape.swiglu else key_mappings.OPENMMLAB_MLP
        return to_theirs(state, key_mappings.OPENMMLAB + mlp + own)
    raise CheckpointError(f"unknown naming scheme {form!r}; choose from: {', '.join(FORMS)}")


def _hugging_face(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    if shape.pre_norm:
        return {f"vision_model.{key}": value for key, value in to_theirs(state, key_mappings.HUGGING_FACE_CLIP).items()}
    table: tuple[Row, ...] = key_mappings.HUGGING_FACE_TRUNK
    if shape.layer_scale:
        table += key_mappings.HUGGING_FACE_DINOV2
        table += key_mappings.HUGGING_FACE_SWIGLU if shape.swiglu else key_mappings.HUGGING_FACE_MLP
    else:
        _refuse(shape.swiglu or shape.registers > 0, "hf", "gated MLPs or registers without LayerScale", "timm")
        table += key_mappings.HUGGING_FACE_VIT
    return to_theirs(state, table)


def _refuse(condition: bool, form: str, what: str, instead: str) -> None:
    if condition:
        raise CheckpointError(f"--to {form} has no name for {what}; write --to {instead}")


def _with_cls_position(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    positions = state["pos_embed"]
    if shape.side is None or positions.shape[1] != shape.side**2:
        return dict(state)
    return {**state, "pos_embed": torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)}


def _without_cls_position(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    positions = state.get("pos_embed")
    if not shape.registers or positions is None or shape.side is None or positions.shape[1] == shape.side**2:
        return dict(state)
    return {**state, "cls_token": state["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}


def _without_layer_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply LayerScale into the weight and bias of the layer before it, in float32."""
    merged = dict(state)
    for key in state:
        match = re.fullmatch(r"(blocks\.\d+)\.ls([12])\.gamma", key)
        if match is None:
            continue
        gamma = merged.pop(key).float()
        layer = f"{match[1]}.{'attn.proj' if match[2] == '1' else 'mlp.fc2'}"
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in merged:
                value = merged[name]
                scaled = value.float() * (gamma[:, None] if value.ndim == 2 else gamma)
                merged[name] = scaled.to(value.dtype)
    return merged
