"""Which students can be slices of which teachers."""

from __future__ import annotations

from typing import Any

from timm.layers import Attention, RotaryEmbeddingDinoV3
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import nn

from proteus.models.initialization.slicing.head_widths import pieces_per_head
from proteus.models.initialization.slicing.hidden_units import kind_of, unit_count
from proteus.models.initialization.slicing.vits import timm_vit

# Students with learnt positions by width; those with rotary ones, and the width of their heads.
_PLAIN = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
_ROTARY = {width: f"vit_{name}_patch16_dinov3_qkvb" for width, name in _PLAIN.items()}
_ROTARY_HEAD = 64
_OTHER_TEACHER = f"take another teacher: DINOv3's have heads of {_ROTARY_HEAD}, all but the 7B"
# Of timm's rotary positions and of its models.
_ROPE = {
    "temperature": "rope_temperature",
    "rotate_half": "rope_rotate_half",
    "grid_offset": "rope_grid_offset",
    "grid_indexing": "rope_grid_indexing",
}


def check_slice(student: Any, teacher: Any) -> None:
    """Check that a student can be a slice of a teacher. Both may be on the meta device.

    Raises:
        ValueError: It cannot; the message says why, in one line.
    """
    given = getattr(teacher, "backbone", None)
    ours, theirs = timm_vit(student), timm_vit(given)
    if ours is None or theirs is None:
        raise ValueError(
            f"a sliced initialization makes a ViT out of a ViT; model.student is {_title(student)} and "
            f"model.teacher.backbone {_title(given)}"
        )
    if teacher.sharded:
        raise ValueError("a sliced initialization needs an unsharded teacher: set model.teacher.shard=False")
    for vit, key in ((ours, "student"), (theirs, "teacher.backbone")):
        problem = _unknown_part(vit)
        if problem:
            raise ValueError(f"model.{key}: a sliced initialization does not support {problem}")
    _check_kind_of_positions(ours, theirs)
    _check_parts(ours, theirs)
    _check_sizes(ours, theirs)
    if isinstance(ours, Eva):
        _check_rotation(ours, theirs)
    _check_images(student, teacher, theirs.patch_embed)


def _title(backbone: Any) -> str:
    arch = getattr(backbone, "timm_args", {}).get("model_name")
    return type(backbone).__name__ + (f" with timm's {arch}" if arch else "")


def _unknown_part(vit: Any) -> str:
    """Return what a ViT has that is not sliced; empty if there is nothing."""
    rotary = isinstance(vit, Eva)
    if rotary and type(vit.rope) is not RotaryEmbeddingDinoV3:
        found = "without" if vit.rope is None else f"with {type(vit.rope).__name__} for"
        return f"timm's Eva {found} rotary positions, only with DINOv3's"
    if rotary and vit.pos_embed is not None:
        return "learnt positions together with rotary ones"
    if rotary and not isinstance(vit.norm_pre, nn.Identity):
        return "a norm before the blocks together with rotary positions"
    kinds = (EvaBlock, EvaAttention) if rotary else (Block, Attention)
    for block in vit.blocks:
        attention: Any = getattr(block, "attn", None)
        if (type(block), type(attention)) != kinds:
            return f"blocks of the kind {type(block).__name__} with {type(attention).__name__}"
        if not isinstance(attention.norm, nn.Identity) or attention.gate is not None:
            return "norms or gates in the attention"
        if attention.qkv is None:
            return "separate layers of queries, keys and values: write qkv_fused=True"
        if not kind_of(block.mlp):
            return f"an MLP of the kind {type(block.mlp).__name__}" + (
                "" if isinstance(getattr(block.mlp, "norm", None), nn.Identity) else " with a norm in it"
            )
        if not all(isinstance(norm, nn.LayerNorm) for norm in (block.norm1, block.norm2)):
            return f"{type(block.norm1).__name__} in the place of LayerNorm"
    if not isinstance(vit.norm, nn.LayerNorm):
        return "a ViT without a LayerNorm after the last block"
    if vit.cls_token is None:
        return "a ViT without a cls token"
    return ""


def _check_kind_of_positions(ours: Any, theirs: Any) -> None:
    mine, given = isinstance(ours, Eva), isinstance(theirs, Eva)
    if mine != given:
        kinds = ("learnt", "rotary")
        raise ValueError(
            f"a sliced initialization keeps the kind of positions, which are {kinds[given]} in the teacher and "
            f"{kinds[mine]} in model.student; {_other_student(ours, theirs)}"
        )


def _check_rotation(ours: Any, theirs: Any) -> None:
    widths = [vit.blocks[0].attn.head_dim for vit in (theirs, ours)]
    if widths[0] != widths[1]:
        heads = ours.embed_dim // widths[0]
        fitting = f"write num_heads={heads} in its config, or " if heads * widths[0] == ours.embed_dim else ""
        raise ValueError(
            f"a sliced initialization keeps the width of a head with rotary positions, {widths[0]}, and model.student "
            f"has {widths[1]}; {fitting}{_OTHER_TEACHER}"
        )
    for name, argument in _ROPE.items():
        own, other = getattr(ours.rope, name), getattr(theirs.rope, name)
        if own != other:
            raise ValueError(
                f"a sliced initialization keeps the teacher's rotary positions, with {argument} {other}, and "
                f"model.student has {own}; write {argument}={other}"
            )


def _check_images(student: Any, teacher: Any, embedding: Any) -> None:
    """Refuse a teacher that cannot encode the student's images, before they are read and fitted on."""
    side = student.img_size
    entering = teacher.input_size((side, side))
    if embedding.strict_img_size and entering != tuple(embedding.img_size):
        only = embedding.img_size[0]
        raise ValueError(
            f"model.teacher.backbone takes images of {only} px alone, and those of model.student enter it with "
            f"{entering[0]} px; write dynamic_img_size=True in its config, or model.teacher.img_size={only}"
        )


def _other_student(ours: Any, theirs: Any) -> str:
    """Say which student with the teacher's kind of positions to take."""
    limit = min(ours.embed_dim, theirs.embed_dim)
    width = max((width for width in _PLAIN if width <= limit), default=min(_PLAIN))
    if not isinstance(theirs, Eva):
        name = _PLAIN[width]
        return f"write --student vit_{name}, or type='ViT', arch='{name}' in its config"
    if theirs.blocks[0].attn.head_dim != _ROTARY_HEAD:
        return _OTHER_TEACHER
    name = _ROTARY[width]
    return f"write --student timm/{name}, or type='TimmBackbone', arch='{name}' in its config"


def _check_parts(ours: Any, theirs: Any) -> None:
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


def _check_sizes(ours: Any, theirs: Any) -> None:
    sides = [vit.patch_embed.patch_size[0] for vit in (theirs, ours)]
    if sides[0] != sides[1]:
        raise ValueError(
            f"a sliced initialization keeps the teacher's patch_size, {sides[0]}, and model.student has {sides[1]}"
        )
    registers = [vit.num_prefix_tokens - 1 for vit in (theirs, ours)]
    if registers[1] > registers[0]:
        argument = "num_reg_tokens" if isinstance(ours, Eva) else "reg_tokens"
        raise ValueError(
            f"a sliced initialization keeps the teacher's {argument}, {registers[0]}, and model.student has "
            f"{registers[1]}; it can have fewer"
        )
    first, original = ours.blocks[0], theirs.blocks[0]
    pieces = pieces_per_head(first.attn.head_dim, original.attn.head_dim)
    sizes = {
        "embed_dim": (ours.embed_dim, theirs.embed_dim),
        "num_heads": (first.attn.num_heads, original.attn.num_heads * pieces),
        "hidden units": (unit_count(first.mlp), unit_count(original.mlp)),
    }
    if kind_of(original.mlp) == "gated" and kind_of(first.mlp) == "plain":
        # Gates, values, sums, differences.
        sizes["hidden units"] = (unit_count(first.mlp), 4 * unit_count(original.mlp))
    for name, (own, other) in sizes.items():
        if own > other:
            raise ValueError(
                f"a slice must be no larger than the teacher: {name} is {own} in model.student and {other} in "
                "model.teacher.backbone; take a smaller student"
            )
