"""From any of the names that a ViT's weights go by to any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from proteus.checkpoints import tables
from proteus.checkpoints.errors import CheckpointError
from proteus.checkpoints.export import export_backbone
from proteus.checkpoints.keys import CLASSIFIER, to_timm_keys
from proteus.checkpoints.read import read_state_dict
from proteus.checkpoints.recognise import Shape, recognise
from proteus.checkpoints.renaming import Row, to_theirs

FORMS = ("timm", "dinov2", "hf", "mmpretrain", "mmseg")
"""Whose names can be written."""


def convert(source: str | Path, target: str | Path, form: str) -> Shape:
    """Write the backbone inside a weight file under another project's names.

    Values are copied bit by bit, with one exception: a DINOv2 model with registers keeps a position for its cls token,
    which timm's has no place for. ``timm`` adds it to the cls token (the same model), and from there ``dinov2`` and
    ``hf`` write zeros for it. A mask token is kept under every form's names; a classifier is left.

    Args:
        source: Any file that :func:`read_state_dict` reads.
        target: ``.safetensors``, or ``.pth`` for tools that read nothing else.
        form: One of :data:`FORMS`.

    Returns:
        What the weights are.

    Raises:
        CheckpointError: The source holds no ViT, or one that the target form has no names for.
    """
    target = Path(target)
    if target.suffix not in (".safetensors", ".pth"):
        raise CheckpointError(f"{target}: write a name that ends in .safetensors or .pth")
    state = to_timm_keys(read_state_dict(source))
    state = {key: value for key, value in state.items() if key not in CLASSIFIER}
    shape = recognise(state)
    if shape is None:
        raise CheckpointError(f"{source} holds {len(state)} tensors and no ViT that could be renamed")
    renamed = from_timm_keys(state, form)
    if target.suffix == ".safetensors":
        export_backbone(renamed, target, {"converted_to": form, "architecture": shape.title})
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save({key: value.contiguous() for key, value in renamed.items()}, target)
    return shape


def from_timm_keys(state: Mapping[str, Tensor], form: str) -> dict[str, Tensor]:
    """Rename weights with timm's names, as :func:`to_timm_keys` gives them, to another project's.

    Raises:
        CheckpointError: ``form`` is none of :data:`FORMS`, or has no names for such a model.
    """
    shape = recognise(state)
    if shape is None:
        raise CheckpointError("these weights are no ViT's in timm's names: pass them through to_timm_keys first")
    if form == "timm":
        return _without_cls_position(state, shape)
    if shape.registers:
        state = _with_cls_position(state, shape)
    if form == "dinov2":
        _refuse(shape.pre_norm, form, "a CLIP tower's LayerNorm before the first block", "timm, hf or mmpretrain")
        return to_theirs(state, tables.META + (tables.META_SWIGLU if shape.swiglu else ()))
    if form == "hf":
        return _hugging_face(state, shape)
    if form in ("mmpretrain", "mmseg"):
        _refuse(shape.registers > 0, form, "register tokens", "timm, dinov2 or hf")
        own = tables.MMPRETRAIN if form == "mmpretrain" else tables.MMSEG
        mlp = tables.OPENMMLAB_SWIGLU if shape.swiglu else tables.OPENMMLAB_MLP
        return to_theirs(state, tables.OPENMMLAB + mlp + own)
    raise CheckpointError(f"no names are known under {form!r}: write one of {', '.join(FORMS)}")


def _hugging_face(state: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    if shape.pre_norm:
        return {f"vision_model.{key}": value for key, value in to_theirs(state, tables.HUGGING_FACE_CLIP).items()}
    table: tuple[Row, ...] = tables.HUGGING_FACE_TRUNK
    if shape.layer_scale:
        table += tables.HUGGING_FACE_DINOV2
        table += tables.HUGGING_FACE_SWIGLU if shape.swiglu else tables.HUGGING_FACE_MLP
    else:
        _refuse(shape.swiglu or shape.registers > 0, "hf", "gated MLPs or registers without LayerScale", "timm")
        table += tables.HUGGING_FACE_VIT
    return to_theirs(state, table)


def _refuse(condition: bool, form: str, what: str, instead: str) -> None:
    if condition:
        raise CheckpointError(f"--to {form}: there is no name for {what}; write --to {instead}")


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
