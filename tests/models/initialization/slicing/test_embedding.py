"""Embeddings of students that begin otherwise than their teachers: CLIP's norm, registers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sliced_vits import PRE_NORM, images, residual, student, teacher

from proteus.models.initialization import slice_teacher

WIDE = dict(embed_dim=64, num_heads=4)


def test_a_pre_norm_student_as_large_as_its_teacher_is_exact() -> None:
    source = teacher(**PRE_NORM)
    source.backbone.vit.norm_pre.weight.data.uniform_(0.5, 2.0)
    ours = student(**WIDE, **PRE_NORM)
    assert max(slice_teacher(ours, source, images())) < 1e-3
    fresh = images(32, seed=1)
    with torch.no_grad():
        assert residual(ours(fresh).patches, source(fresh).patches) < 2e-3


@pytest.mark.parametrize("kind", [PRE_NORM, {}], ids=["pre-norm student", "plain student"])
def test_half_of_a_pre_norm_teacher_is_fitted(kind: dict[str, Any]) -> None:
    source = teacher(**PRE_NORM)
    ours = student(**kind)
    assert slice_teacher(ours, source, images(256))[-1] < 0.05
    fresh = images(64, seed=1)
    with torch.no_grad():
        wanted = source(fresh).patches
        assert residual(ours(fresh).patches, wanted) < 0.5 * residual(student(**kind)(fresh).patches, wanted)


def test_the_norm_before_the_blocks_becomes_a_part_of_the_embedding() -> None:
    """The prefix tokens are exact, and patches have the size that the norm gives them."""
    source = teacher(**PRE_NORM)
    ours = student(**WIDE)
    errors = slice_teacher(ours, source, images(256))
    assert errors[-1] < 0.03
    with torch.no_grad():
        mine, given = (vit.embed(images())[0] for vit in (ours, source.backbone))
    centred = given - given.mean(-1, keepdim=True)
    torch.testing.assert_close(mine[:, 0].norm(dim=-1), centred[:, 0].norm(dim=-1), rtol=1e-3, atol=0)
    assert (mine[:, 1:].norm(dim=-1).mean() / centred[:, 1:].norm(dim=-1).mean() - 1).abs() < 0.05


def test_a_student_without_bias_of_patches_has_it_in_the_positions() -> None:
    ours = student(**WIDE)
    ours.vit.patch_embed.proj.bias = None
    assert max(slice_teacher(ours, teacher(), images())) < 1e-3


def test_registers_that_the_student_lacks_are_left_out() -> None:
    source = teacher(strong=True, reg_tokens=4)
    kept = slice_teacher(student(**WIDE, reg_tokens=4), source, images())
    fewer = [slice_teacher(student(**WIDE, reg_tokens=count), source, images())[-1] for count in (2, 0)]
    assert max(kept) < 2e-3
    assert max(fewer) < 0.05
    assert min(fewer) > 2 * kept[-1]


def test_without_registers_the_first_block_reads_the_same_tokens() -> None:
    ours, source = student(**WIDE), teacher(reg_tokens=2)
    slice_teacher(ours, source, images())
    with torch.no_grad():
        mine, given = ours.embed(images())[0], source.backbone.embed(images())[0]
    given = torch.cat([given[:, :1], given[:, 3:]], dim=1)
    given = given - given.mean(-1, keepdim=True)
    torch.testing.assert_close(torch.cdist(mine, mine), torch.cdist(given, given), atol=1e-3, rtol=1e-3)


def test_a_teacher_that_resizes_its_images_is_fitted_at_the_students_size() -> None:
    source = teacher(img_size=56)
    source.img_size = 56
    assert max(slice_teacher(student(**WIDE), source, images())) < 1e-3
