from __future__ import annotations

import pytest
import torch
from sliced_vits import LARGE, PRE_NORM, images, student, teacher
from timm.layers import Mlp

from proteus.models import Teacher, ViT
from proteus.models.initialization import check_slice, slice_teacher


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (dict(patch_size=7), {}, "keeps the teacher's patch_size, 14, and model.student has 7"),
        (dict(reg_tokens=4), {}, "reg_tokens"),
        (dict(reg_tokens=4), dict(reg_tokens=2), "reg_tokens, 2, and model.student has 4; it can have fewer"),
        (dict(embed_dim=80, num_heads=5), {}, "embed_dim is 80"),
        (PRE_NORM, {}, "model.student: .*norm before the blocks"),
        (dict(arch="vit_small_patch16_18x2_224"), {}, r"model\.student: .* not support blocks of the kind Parallel"),
        ({}, dict(arch="vit_small_patch16_18x2_224"), r"model\.teacher\.backbone: .* of the kind Parallel"),
    ],
)
def test_what_does_not_fit_is_refused(ours: dict, theirs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        slice_teacher(student(**ours), Teacher(backbone={**LARGE, **theirs}, dtype="float32"), images(2))


def test_more_hidden_units_than_the_teachers_are_refused() -> None:
    ours = student()
    for block in ours.vit.blocks:
        block.mlp = Mlp(32, 300)
    with pytest.raises(ValueError, match=r"hidden units is 300 in model\.student and 256 in"):
        check_slice(ours, teacher())


def test_only_a_vit_is_a_slice() -> None:
    with pytest.raises(ValueError, match=r"model\.student is Linear"):
        slice_teacher(torch.nn.Linear(1, 1), teacher(), images(2))


def test_norms_of_queries_and_keys_are_kept_in_both_or_neither() -> None:
    ours, source = student(), teacher()
    for block in source.backbone.vit.blocks:
        block.attn.q_norm, block.attn.k_norm = torch.nn.LayerNorm(16), torch.nn.LayerNorm(16)
    with pytest.raises(ValueError, match=r"both models or in neither; the teacher has them, model\.student does not"):
        check_slice(ours, source)
    for block in ours.vit.blocks:
        block.attn.q_norm, block.attn.k_norm = torch.nn.LayerNorm(16), torch.nn.LayerNorm(16)
    check_slice(ours, source)
    with pytest.raises(ValueError, match=r"query/key norms .*; model\.student has them, the teacher does not"):
        check_slice(ours, teacher())
    narrow = student(num_heads=4)
    for block in narrow.vit.blocks:
        block.attn.q_norm, block.attn.k_norm = torch.nn.LayerNorm(8), torch.nn.LayerNorm(8)
    with pytest.raises(ValueError, match="keeps the width of a head where queries and keys have norms, 16, and"):
        check_slice(narrow, source)


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ("giant", "large"),
        ("giant", "base"),
        ("giant", "small"),
        ("giant", "tiny"),
        ("large", "base"),
        ("large", "small"),
        ("large", "tiny"),
        ("base", "small"),
        ("base", "tiny"),
        ("small", "tiny"),
        ("clip-large", "base"),
        ("clip-large", "small"),
    ],
)
def test_the_architectures_with_names_are_slices_of_larger_ones(larger: str, smaller: str) -> None:
    with torch.device("meta"):
        source = Teacher(backbone=dict(type="ViT", arch=larger, img_size=224, patch_size=14), dtype="float32")
        check_slice(ViT(smaller, img_size=224, patch_size=14), source)
        with pytest.raises(ValueError, match="embed_dim"):
            check_slice(
                ViT(larger if "clip" not in larger else "giant", img_size=224, patch_size=14),
                Teacher(backbone=dict(type="ViT", arch=smaller, img_size=224, patch_size=14), dtype="float32"),
            )
