from __future__ import annotations

import pytest
import torch
from sliced_vits import images, student, teacher
from torch import nn

from proteus.models import Teacher
from proteus.models.initialization import slice_teacher
from proteus.models.initialization.slicing.head_widths import pieces_per_head

WIDE = dict(embed_dim=64)


def with_scores_of_rank(source: Teacher, rank: int) -> Teacher:
    """Leave each head ``rank`` queries that are not zero."""
    for block in source.backbone.vit.blocks:
        queries = block.attn.qkv.weight.data[:64].view(4, 16, -1)
        queries[:, rank:] = 0
        block.attn.qkv.bias.data[:64].view(4, 16)[:, rank:] = 0
    return source


@pytest.mark.parametrize("heads", [4, 8])
def test_narrower_heads_are_exact_where_the_scores_have_their_rank(heads: int) -> None:
    source = with_scores_of_rank(teacher(strong=True), 64 // heads)
    assert max(slice_teacher(student(**WIDE, num_heads=heads), source, images())) < 1e-3


def test_a_lower_rank_leaves_more_unexplained() -> None:
    errors = [
        slice_teacher(student(**WIDE, num_heads=heads), teacher(strong=True), images())[-1] for heads in (4, 8, 16)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-3
    assert errors[1] < 0.05


def test_wider_heads_are_exact_where_each_of_the_teachers_has_one() -> None:
    source = teacher(strong=True, num_heads=4)
    ours = student(**WIDE, num_heads=4)
    for block in ours.vit.blocks:  # four heads of 24 instead of 16
        block.attn = type(block.attn)(64, num_heads=4, attn_head_dim=24, qkv_bias=True)
    assert max(slice_teacher(ours.eval(), source, images())) < 1e-3


def test_merged_heads_explain_more_than_those_that_are_left() -> None:
    """Two heads of 32 for four of 16 hold what the other two write on average."""
    source = teacher(strong=True)
    merged = slice_teacher(student(**WIDE, num_heads=2), source, images(256))
    ours = student(**WIDE)
    for block in ours.vit.blocks:
        block.attn = type(block.attn)(64, num_heads=2, attn_head_dim=16, qkv_bias=True)
    assert merged[-1] < 0.95 * slice_teacher(ours.eval(), source, images(256))[-1]


def test_filled_up_queries_and_keys_get_gradients() -> None:
    ours = student(**WIDE, num_heads=2)
    slice_teacher(ours, teacher(strong=True), images())
    ours(images(4)).patches.square().sum().backward()
    queries = ours.vit.blocks[0].attn.qkv.weight.grad[:64].view(2, 32, -1)
    assert queries[:, 16:].abs().amax(-1).min() > 0


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_student_with_heads_of_any_width_is_fitted(heads: int) -> None:
    """A width that does not divide the teacher's included: 48 / 4 = 12 of 16."""
    for width in (16 * heads, 48):
        ours = student(embed_dim=width, num_heads=4 if width == 48 else heads)
        assert slice_teacher(ours, teacher(), images())[-1] < 0.05


def test_queries_and_keys_with_norms_keep_them() -> None:
    source, ours = teacher(strong=True), student(**WIDE, num_heads=4)
    for vit in (source.backbone.vit, ours.vit):
        for block in vit.blocks:
            block.attn.q_norm, block.attn.k_norm = nn.LayerNorm(16), nn.LayerNorm(16)
    for block in source.backbone.vit.blocks:
        for norm in (block.attn.q_norm, block.attn.k_norm):
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_()
    assert max(slice_teacher(ours, source, images())) < 1e-3
    assert torch.equal(ours.vit.blocks[3].attn.q_norm.bias, source.backbone.vit.blocks[3].attn.q_norm.bias)


def test_pieces_of_a_head() -> None:
    assert [pieces_per_head(width, 64) for width in (64, 80, 32, 48, 20)] == [1, 1, 2, 2, 4]
