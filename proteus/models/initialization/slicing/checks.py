"""Which students can be slices of which teachers."""

from __future__ import annotations

from typing import Any

from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import nn

from proteus.models.backbones import ViT
from proteus.models.initialization.slicing.head_widths import pieces_per_head
from proteus.models.initialization.slicing.hidden_units import kind_of, unit_count


def check_slice(student: Any, teacher: Any) -> None:
    """Check that a student can be a slice of a teacher. Both may be on the meta device.

    Raises:
        ValueError: It cannot; the message says why, in one line.
    """
    given = getattr(teacher, "backbone", None)
    if not isinstance(student, ViT) or not isinstance(given, ViT):
        raise ValueError(
            f"a sliced initialization makes a ViT out of a ViT; model.student is {type(student).__name__} and "
            f"model.teacher.backbone {type(given).__name__}"
        )
    if teacher.sharded:
        raise ValueError("a sliced initialization needs an unsharded teacher: set model.teacher.shard=False")
    for vit, key in ((student, "student"), (given, "teacher.backbone")):
        problem = _unknown_part(vit)
        if problem:
            raise ValueError(f"model.{key}: a sliced initialization does not support {problem}")
    _check_parts(student, given)
    _check_sizes(student, given)


def _unknown_part(vit: ViT) -> str:
    """Return what a ViT has that is not sliced; empty if there is nothing."""
    for block in vit.vit.blocks:
        attention: Any = getattr(block, "attn", None)
        if type(block) is not Block or type(attention) is not Attention:
            return f"blocks of the kind {type(block).__name__} with {type(attention).__name__}"
        if not isinstance(attention.norm, nn.Identity) or attention.gate is not None:
            return "norms or gates in the attention"
        if not kind_of(block.mlp):
            return f"an MLP of the kind {type(block.mlp).__name__}" + (
                "" if isinstance(getattr(block.mlp, "norm", None), nn.Identity) else " with a norm in it"
            )
        if not all(isinstance(norm, nn.LayerNorm) for norm in (block.norm1, block.norm2)):
            return f"{type(block.norm1).__name__} in the place of LayerNorm"
    if not isinstance(vit.vit.norm, nn.LayerNorm):
        return "a ViT without a LayerNorm after the last block"
    return ""


def _check_parts(student: ViT, teacher: ViT) -> None:
    ours, theirs = student.vit, teacher.vit
    if not isinstance(ours.norm_pre, nn.Identity) and isinstance(theirs.norm_pre, nn.Identity):
        raise ValueError(
            "model.student: a sliced initialization does not support a norm before the blocks, which the teacher does "
            "not have"
        )
    mine, given = (not isinstance(vit.blocks[0].attn.q_norm, nn.Identity) for vit in (ours, theirs))
    if mine != given:
        one, other = ("model.student", "the teacher") if mine else ("the teacher", "model.student")
        raise ValueError(
            f"a sliced initialization needs query/key norms in both models or in neither; {one} has them, {other} does "
            "not"
        )
    if mine and ours.blocks[0].attn.head_dim != theirs.blocks[0].attn.head_dim:
        raise ValueError(
            "a sliced initialization keeps the width of a head where queries and keys have norms, "
            f"{theirs.blocks[0].attn.head_dim}, and model.student has {ours.blocks[0].attn.head_dim}"
        )


def _check_sizes(student: ViT, teacher: ViT) -> None:
    if student.patch_size != teacher.patch_size:
        raise ValueError(
            f"a sliced initialization keeps the teacher's patch_size, {teacher.patch_size}, and model.student has "
            f"{student.patch_size}"
        )
    if student.vit.num_reg_tokens > teacher.vit.num_reg_tokens:
        raise ValueError(
            f"a sliced initialization keeps the teacher's reg_tokens, {teacher.vit.num_reg_tokens}, and model.student "
            f"has {student.vit.num_reg_tokens}; it can have fewer"
        )
    ours, theirs = student.vit.blocks[0], teacher.vit.blocks[0]
    pieces = pieces_per_head(ours.attn.head_dim, theirs.attn.head_dim)
    sizes = {
        "embed_dim": (student.embed_dim, teacher.embed_dim),
        "num_heads": (ours.attn.num_heads, theirs.attn.num_heads * pieces),
        "hidden units": (unit_count(ours.mlp), unit_count(theirs.mlp)),
    }
    if kind_of(theirs.mlp) == "gated" and kind_of(ours.mlp) == "plain":
        sizes["hidden units"] = (unit_count(ours.mlp), 4 * unit_count(theirs.mlp))  # gates, values, sums, differences
    for name, (own, other) in sizes.items():
        if own > other:
            raise ValueError(
                f"a slice must be no larger than the teacher: {name} is {own} in model.student and {other} in "
                "model.teacher.backbone; take a smaller student"
            )
