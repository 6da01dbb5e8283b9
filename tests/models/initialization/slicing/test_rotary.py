"""Slices of ViTs with rotary positions: DINOv3 as timm has it."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from sliced_vits import (
    DINOV3,
    DINOV3_PLUS,
    ROTARY_LARGE,
    images,
    residual,
    rotary_student,
    rotary_teacher,
    student,
    teacher,
)
from torch import Tensor, nn

from proteus.models import Teacher, TimmBackbone
from proteus.models.initialization import check_slice, slice_teacher
from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing import layers
from proteus.models.initialization.slicing.layers import fold_constants

WIDE = dict(embed_dim=64, num_heads=4)


def pictures(count: int = 128, seed: int = 0, size: Any = 64) -> Tensor:
    return images(count, seed, size)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit without ridges, which keep weights small at the price of a small error."""
    monkeypatch.setattr(layers, "_READER_RIDGE", 1e-9)
    monkeypatch.setattr(LeastSquares.solve, "__defaults__", (None, 1e-9))


@pytest.mark.parametrize("ours", [f"{DINOV3}_qkvb", DINOV3], ids=["qkvb", "no bias"])
@pytest.mark.parametrize("theirs", [f"{DINOV3}_qkvb", DINOV3], ids=["of qkvb", "of no bias"])
def test_as_large_as_the_teacher_it_is_the_teacher_in_other_coordinates(ours: str, theirs: str, exact: None) -> None:
    """Also without a bias of the queries: the weights read the constants from the norm."""
    source = rotary_teacher(arch=theirs)
    found = rotary_student(**WIDE, arch=ours)
    assert max(slice_teacher(found, source, pictures())) < 1e-4
    fresh = pictures(seed=1)
    with torch.no_grad():
        assert residual(found(fresh).patches, source(fresh).patches) < 1e-4
        assert residual(found(fresh).cls, source(fresh).cls) < 1e-4


def test_ridges_cost_little() -> None:
    assert max(slice_teacher(rotary_student(**WIDE), rotary_teacher(), pictures())) < 1e-3


def test_a_half_is_nearer_than_chance_and_leaves_the_teacher_alone() -> None:
    source = rotary_teacher()
    before = copy.deepcopy(source.state_dict())
    ours = rotary_student()
    assert all(error < 0.5 for error in slice_teacher(ours, source, pictures()))
    assert all(torch.equal(source.state_dict()[name], value) for name, value in before.items())
    fresh = pictures(seed=1)
    with torch.no_grad():
        wanted = source(fresh).patches
        assert residual(ours(fresh).patches, wanted) < 0.5 * residual(rotary_student()(fresh).patches, wanted)


def in_a_subspace(source: Teacher, size: int) -> Teacher:
    """Let the stream of a teacher have ``size`` dimensions, so that a narrower student reads all of it."""
    model = source.backbone.model
    mixed = torch.randn(64, size, generator=torch.Generator().manual_seed(2))
    basis = torch.linalg.qr(mixed - mixed.mean(0)).Q
    within = basis @ basis.T
    kernel = model.patch_embed.proj
    kernel.weight.data = (within @ kernel.weight.data.flatten(1)).view_as(kernel.weight)
    kernel.bias.data = within @ kernel.bias.data
    for token in (model.cls_token, model.reg_token):
        token.data = token.data @ within
    for block in model.blocks:
        for layer, gamma in ((block.attn.proj, block.gamma_1), (block.mlp.fc2, block.gamma_2)):
            layer.weight.data, layer.bias.data = within @ layer.weight.data, within @ layer.bias.data
            gamma.data.fill_(0.5)
    return source


def scores(backbone: TimmBackbone, pixels: Tensor) -> Tensor:
    """Attention scores of the first block's heads on images of 4 x 2 patches, ``(B, H, N, N)``, from the formulas."""
    model = backbone.model
    attention, prefix = model.blocks[0].attn, 5
    tokens = model.patch_embed(pixels).flatten(1, 2)
    tokens = torch.cat(
        [model.cls_token.expand(len(pixels), -1, -1), model.reg_token.expand(len(pixels), -1, -1), tokens], 1
    )
    heads, width = attention.num_heads, attention.head_dim
    zeros = torch.zeros(heads * width)
    biases = torch.cat([zeros, zeros] if attention.q_bias is None else [attention.q_bias, zeros])
    read = model.blocks[0].norm1(tokens) @ attention.qkv.weight[: 2 * heads * width].T + biases
    queries, keys = read.unflatten(-1, (2, heads, width)).permute(2, 0, 3, 1, 4).double()
    # A pair of halves is a complex number, and a position in [-1, 1] turns it by 2 pi y / period, the next by x.
    periods = 100 ** (4 * torch.arange(width // 4) / width).double()
    places = [((2 * row + 1) / 4 - 1, (2 * column + 1) / 2 - 1) for row in range(4) for column in range(2)]
    angles = torch.stack([torch.cat([2 * math.pi * y / periods, 2 * math.pi * x / periods]) for y, x in places])
    turn = torch.cat(
        [torch.ones(prefix, width // 2, dtype=torch.cdouble), torch.polar(torch.ones_like(angles), angles)]
    )
    queries, keys = (torch.complex(*part.chunk(2, dim=-1)) * turn for part in (queries, keys))
    return (queries @ keys.mH).real / math.sqrt(width)


@pytest.mark.parametrize("arch", [f"{DINOV3}_qkvb", DINOV3], ids=["qkvb", "no bias"])
def test_the_heads_that_stay_keep_their_scores(arch: str, exact: None) -> None:
    source, ours = in_a_subspace(rotary_teacher(), 24), rotary_student(arch=arch)
    pixels = pictures(size=(64, 32))
    slice_teacher(ours, source, pixels)
    with torch.no_grad():
        wanted, found = scores(source.backbone, pixels[:8]), scores(ours, pixels[:8])
    # A constant of all scores of a query changes no attention.
    wanted, found = (each - each.mean(-1, keepdim=True) for each in (wanted, found))
    wrong = torch.tensor(
        [[(one - other).norm() / other.norm() for other in wanted.unbind(1)] for one in found.unbind(1)]
    )
    assert wrong.amin(1).max() < 5e-3
    assert len(set(wrong.argmin(1).tolist())) == 2  # two different heads of the four
    assert wrong.topk(2, dim=1, largest=False).values[:, 1].min() > 0.3


@pytest.mark.parametrize("fixed", [False, True], ids=["any size", "one size"])
def test_images_may_have_another_size_and_shape(fixed: bool) -> None:
    options: dict[str, Any] = dict(dynamic_img_size=False, img_size=48) if fixed else {}
    size = 48 if fixed else (32, 80)
    source, ours = rotary_teacher(**options), rotary_student(**WIDE, **options)
    assert max(slice_teacher(ours, source, pictures(size=size))) < 1e-3
    fresh = pictures(seed=1, size=size)
    with torch.no_grad():
        assert residual(ours(fresh).patches, source(fresh).patches) < 5e-3


def test_a_teacher_of_one_image_size_is_sliced_at_the_students() -> None:
    source, ours = rotary_teacher(dynamic_img_size=False, img_size=96), rotary_student(**WIDE, dynamic_img_size=False)
    with pytest.raises(ValueError, match=r"takes images of 96 px alone, .* with 64 px; write dynamic_img_size=True"):
        check_slice(ours, source)
    source.img_size = 96
    assert max(slice_teacher(ours, source, pictures())) < 1e-3


def test_registers_that_the_student_lacks_are_left_out() -> None:
    source = rotary_teacher()
    source.backbone.model.reg_token.data.mul_(10)  # the patches read them
    errors = [slice_teacher(rotary_student(**WIDE, num_reg_tokens=n), source, pictures())[-1] for n in (4, 2, 0)]
    assert errors == sorted(errors)
    assert errors[-1] < 1e-3


@pytest.mark.parametrize("align", [8, 0], ids=["SwiGLU", "SwiGLUPacked"])
@pytest.mark.parametrize(
    ("ours", "theirs", "limit"),
    [(DINOV3_PLUS, DINOV3_PLUS, 1e-3), (DINOV3_PLUS, DINOV3, 1e-2), (DINOV3, DINOV3_PLUS, 0.1)],
    ids=["gated of gated", "gated of plain", "plain of gated"],
)
def test_gated_and_plain_mlps(ours: str, theirs: str, limit: float, align: int) -> None:
    def options(arch: str) -> dict[str, Any]:
        return dict(arch=arch, **({"swiglu_align_to": align} if "plus" in arch else {}))

    source, found = rotary_teacher(**options(theirs)), rotary_student(**WIDE, **options(ours))
    assert max(slice_teacher(found, source, pictures())) < limit


def test_more_blocks_than_the_teachers_write_nothing_and_learn() -> None:
    ours = rotary_student(**WIDE, depth=4)
    assert len(slice_teacher(ours, rotary_teacher(), pictures())) == 2
    alike = rotary_student(**WIDE)
    slice_teacher(alike, rotary_teacher(), pictures())
    fresh = pictures(8, seed=1)
    torch.testing.assert_close(ours(fresh).patches, alike(fresh).patches)
    ours(fresh).patches.square().sum().backward()
    for block in ours.model.blocks[2:]:
        assert block.gamma_1.eq(1).all()  # of 1e-5, the layers before it would hardly learn
        assert block.attn.proj.weight.grad.abs().sum() > 0
        assert block.mlp.fc2.weight.grad.abs().sum() > 0


def test_a_student_in_half_precision_is_the_rounded_one() -> None:
    ours, rounded = rotary_student(), rotary_student().to(torch.bfloat16)
    slice_teacher(ours, rotary_teacher(), pictures())
    slice_teacher(rounded, rotary_teacher(), pictures().to(torch.bfloat16).float())
    assert all(value.dtype == torch.bfloat16 for value in rounded.state_dict().values())
    with torch.no_grad():
        assert residual(rounded(pictures().to(torch.bfloat16)).patches.float(), ours(pictures()).patches) < 0.02


def test_norms_of_queries_and_keys_work_before_the_rotation() -> None:
    source, ours = rotary_teacher(qk_norm=True), rotary_student(**WIDE, qk_norm=True)
    assert max(slice_teacher(ours, source, pictures())) < 1e-3
    assert torch.equal(ours.model.blocks[1].attn.q_norm.bias, source.backbone.model.blocks[1].attn.q_norm.bias)


def test_weights_read_constants_from_the_norm() -> None:
    torch.manual_seed(0)
    norm, tokens, weight, bias = nn.LayerNorm(8), torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)
    with torch.no_grad():
        wanted = norm(tokens) @ weight.T + bias
        folded = fold_constants(norm, weight, bias)
        torch.testing.assert_close(norm(tokens) @ folded.T, wanted)


def test_a_plain_student_without_a_bias_has_the_constants_too(exact: None) -> None:
    source, ours = teacher(), student(embed_dim=64, num_heads=4)
    for block in ours.vit.blocks:
        block.attn = type(block.attn)(64, num_heads=4, qkv_bias=False)
    for block in source.backbone.vit.blocks:
        block.norm1.bias.data.normal_()
    assert max(slice_teacher(ours.eval(), source, images())) < 1e-4


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (dict(num_heads=1), {}, r"head with rotary positions, 16, and model.student has 32; write num_heads=2 in its"),
        (dict(rope_temperature=50), {}, "with rope_temperature 100.0, and .* has 50.0; write rope_temperature=100.0"),
        ({}, dict(rope_rotate_half=False), "rope_rotate_half False, and model.student has True"),
        ({}, dict(rope_grid_offset=0.5), "write rope_grid_offset=0.5"),
        ({}, dict(rope_grid_indexing="xy"), "write rope_grid_indexing=xy"),
        (dict(rope_type="cat"), {}, "model.student: .* Eva with RotaryEmbeddingCat for rotary positions, only with"),
        ({}, dict(use_rot_pos_emb=False), r"model\.teacher\.backbone: .* Eva without rotary positions, only with"),
        ({}, dict(use_abs_pos_emb=True), r"model\.teacher\.backbone: .* learnt positions together with rotary ones"),
        ({}, dict(use_pre_transformer_norm=True), "a norm before the blocks together with rotary positions"),
        ({}, dict(scale_attn_inner=True), "norms or gates in the attention"),
        ({}, dict(swiglu_mlp=True, scale_mlp=True), "an MLP of the kind SwiGLU with a norm in it"),
        ({}, dict(attn_type="rope"), "blocks of the kind EvaBlock with AttentionRope"),
        ({}, dict(use_post_norm=True), "blocks of the kind EvaBlockPostNorm with EvaAttention"),
        (dict(qkv_fused=False), {}, "separate layers of queries, keys and values: write qkv_fused=True"),
        ({}, dict(use_fc_norm=True), "without a LayerNorm after the last block"),
        ({}, dict(class_token=False), "without a cls token"),
        (dict(qk_norm=True), {}, "query/key norms in both models or in neither; model.student has them"),
        (dict(num_reg_tokens=5), {}, "the teacher's num_reg_tokens, 4, and model.student has 5; it can have fewer"),
        (dict(embed_dim=80, num_heads=5), {}, "embed_dim is 80 .* take a smaller student"),
        (dict(patch_size=32), {}, "the teacher's patch_size, 16, and model.student has 32"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(ours: dict[str, Any], theirs: dict[str, Any], words: str) -> None:
    with torch.device("meta"):
        source = Teacher(backbone={"type": "TimmBackbone", **ROTARY_LARGE, **theirs}, dtype="float32")
        found = rotary_student(**ours)
    with pytest.raises(ValueError, match=words) as caught:
        check_slice(found, source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("small", "vit_base_patch16_dinov3", "write --student timm/vit_small_patch16_dinov3_qkvb, or type="),
        ("base", "vit_small_plus_patch16_dinov3", "write --student timm/vit_small_patch16_dinov3_qkvb, or type="),
        ("tiny", "vit_huge_plus_patch16_dinov3", "learnt in model.student; write --student timm/vit_tiny_patch16"),
        ("small", "vit_7b_patch16_dinov3", "take another teacher: DINOv3's have heads of 64, all but the 7B"),
        ("vit_small_patch16_dinov3", "base", "rotary in model.student; write --student vit_small, or type='ViT', arch"),
        ("vit_large_patch16_dinov3", "vit_7b_patch16_dinov3", "positions, 128, and .* 64; write num_heads=8 .*another"),
        ("resnet10t", "vit_base_patch16_dinov3", "a ViT out of a ViT; model.student is TimmBackbone with timm's res"),
    ],
)
def test_kinds_that_do_not_go_together_are_refused(ours: str, theirs: str, words: str) -> None:
    def config(arch: str) -> dict[str, Any]:
        kind = {"type": "ViT", "patch_size": 16} if arch in ("tiny", "small", "base") else {"type": "TimmBackbone"}
        return {**kind, "arch": arch, "img_size": 224}

    with torch.device("meta"):
        source, found = (Teacher(backbone=config(arch), dtype="float32") for arch in (theirs, ours))
    with pytest.raises(ValueError, match=words) as caught:
        check_slice(found.backbone, source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ("huge_plus", "large"),
        ("huge_plus", "base"),
        ("huge_plus", "small_plus"),
        ("large", "base"),
        ("large", "small_plus"),
        ("large", "small"),
        ("base", "small"),
        ("base", "tiny"),
        ("small_plus", "small"),
        ("small", "tiny"),
    ],
)
def test_dinov3s_sizes_are_slices_of_larger_ones(larger: str, smaller: str) -> None:
    with torch.device("meta"):
        config = dict(type="TimmBackbone", arch=f"vit_{larger}_patch16_dinov3")
        check_slice(TimmBackbone(f"vit_{smaller}_patch16_dinov3_qkvb"), Teacher(backbone=config, dtype="float32"))
