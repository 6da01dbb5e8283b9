"""Gated MLPs (SwiGLU), as DINOv2's ViT-g has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sliced_vits import GATED, images, share_of_units, student, teacher
from timm.layers import GluMlp, SwiGLU
from torch import nn

from proteus.models import ViT
from proteus.models.initialization import slice_teacher
from proteus.models.initialization.slicing import mlp as module

PLAIN = dict(embed_dim=48, num_heads=3)


def with_mlps(vit: ViT, make: Any) -> ViT:
    """Replace the MLPs of a ViT."""
    for block in vit.vit.blocks:
        block.mlp = make()
    return vit.eval()


def packed(**options: Any) -> GluMlp:
    return GluMlp(48, 256, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: packed(act_layer=nn.SiLU, gate_last=False),
        lambda: packed(act_layer=nn.GELU, gate_last=True),
        lambda: packed(act_layer=nn.SiLU, gate_last=False, bias=False),
        lambda: SwiGLU(48, 128),
    ],
    ids=["SwiGLUPacked", "GEGLU", "no bias", "SwiGLU"],
)
def test_a_gated_student_as_large_as_its_teacher_is_exact(make: Any) -> None:
    torch.manual_seed(0)
    source = teacher(**GATED)
    with_mlps(source.backbone, make)
    # The value branch of a new SwiGLU hardly depends on the input.
    for name, parameter in source.backbone.named_parameters():
        if ".mlp." in name:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    ours = with_mlps(student(**GATED), make)
    assert max(slice_teacher(ours, source, images())) < 1e-3


def test_a_gated_student_may_order_gate_and_value_in_another_way() -> None:
    ours = with_mlps(student(**GATED), lambda: SwiGLU(48, 128))
    assert max(slice_teacher(ours, teacher(**GATED), images())) < 1e-3


def test_half_of_a_gated_teacher_keeps_pairs_of_gate_and_value() -> None:
    source = teacher(**GATED)
    for block in source.backbone.vit.blocks:
        block.mlp.fc2.weight.data[:, ::2] *= 1e-3
    ours = student(arch="giant", embed_dim=24, num_heads=3)
    bases: list[torch.Tensor] = []
    slice_teacher(ours, source, images(), on_basis=bases.append)
    for mine, given in zip(ours.vit.blocks, source.backbone.vit.blocks, strict=True):
        for found, wanted in zip(mine.mlp.fc1.weight.chunk(2), given.mlp.fc1.weight.chunk(2), strict=True):
            odd = range(1, len(wanted), 2)
            assert share_of_units(found, wanted * given.norm2.weight, bases[0], odd) > 0.95


def test_plain_units_for_a_gated_teacher_explain_more_than_its_gates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    source = teacher(strong=True, **GATED)
    sizes = dict(embed_dim=24, num_heads=3)
    errors = slice_teacher(student(**sizes), source, images(256))

    def gates(block: Any, given: Any, streams: Any) -> Any:
        count = block.mlp.fc1.out_features
        return [(weight[:count], bias[:count]) for weight, bias in given[:1]]

    monkeypatch.setattr(module, "_plain_units", gates)
    assert errors[-1] < 0.98 * slice_teacher(student(**sizes), source, images(256))[-1]
    assert errors[-1] < 0.3


@pytest.mark.parametrize(
    ("act", "limit"), [(nn.SiLU, 0.005), (nn.Sigmoid, 0.005), (nn.GELU, 1e-3)], ids=["SwiGLU", "GLU", "GEGLU"]
)
def test_a_gated_student_of_a_plain_teacher_is_nearly_exact(act: Any, limit: float) -> None:
    """It has as many units as the teacher; GELU is nearly x * sigmoid(1.702 x)."""
    ours = with_mlps(student(**PLAIN), lambda: packed_for_plain(act))
    assert max(slice_teacher(ours, teacher(**PLAIN), images())) < limit


def packed_for_plain(act: Any) -> GluMlp:
    return GluMlp(48, 2 * 4 * 48, act_layer=act, gate_last=False)


def test_another_activation_than_the_teachers_is_fitted() -> None:
    """QuickGELU in the teacher (CLIP), GELU in the student."""
    source = teacher()
    for block in source.backbone.vit.blocks:
        block.mlp.act = nn.ReLU()
    ours = student(embed_dim=64, num_heads=4)
    assert max(slice_teacher(ours, source, images())) < 5e-3
