import pytest
import torch
from torch import Tensor
from torch.nn import functional

from proteus.models import ViT, backbones
from proteus.models.backbones import pos_embed
from proteus.models.backbones.checkpoint_positions import fit_positions


def positions(side: int, width: int = 5, prefix: int = 1) -> Tensor:
    return torch.randn(1, prefix + side**2, width, generator=torch.Generator().manual_seed(0))


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).reshape(1, tokens.shape[-1], *grid)


def test_the_same_grid_changes_nothing() -> None:
    embedding = positions(4)
    assert backbones.interpolate_pos_embed(embedding, (4, 4), (4, 4)) is embedding


def test_halving_a_ramp_gives_the_middles_of_pairs() -> None:
    # Between two samples the cubic kernel is symmetric, so that a linear ramp stays exact: the new sample i lies in
    # the middle of old samples 2i and 2i + 1. Rows and columns carry different ramps, so a transposition would show.
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(12.0) * 10, indexing="ij")
    embedding = torch.stack([rows, columns], dim=-1).reshape(1, 96, 2)
    found = backbones.interpolate_pos_embed(embedding, (8, 12), (4, 6), offset=0.0).reshape(4, 6, 2)
    torch.testing.assert_close(found[1:3, 1:5, 0], torch.tensor([2.5, 4.5])[:, None].expand(2, 4))
    torch.testing.assert_close(found[1:3, 1:5, 1], torch.tensor([25.0, 45.0, 65.0, 85.0]).expand(2, 4))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("grid", [(16, 16), (5, 9), (40, 37)])
def test_without_offset_it_resamples_to_a_size(grid: tuple[int, int], antialias: bool) -> None:
    embedding = positions(37)
    found = backbones.interpolate_pos_embed(embedding, (37, 37), grid, antialias=antialias, offset=0.0)
    expected = functional.interpolate(
        as_map(embedding[:, 1:], (37, 37)), size=grid, mode="bicubic", align_corners=False, antialias=antialias
    )
    torch.testing.assert_close(as_map(found[:, 1:], grid), expected)
    assert torch.equal(found[:, :1], embedding[:, :1])


def test_the_default_is_metas_release() -> None:
    embedding = positions(37)
    found = backbones.interpolate_pos_embed(embedding, (37, 37), (16, 12))
    # dinov2, interpolate_pos_encoding: sx = (w0 + interpolate_offset) / sqrt(N), passed as scale_factor.
    scale = (float(16 + 0.1) / 37, float(12 + 0.1) / 37)
    meta = functional.interpolate(as_map(embedding[:, 1:], (37, 37)), scale_factor=scale, mode="bicubic")
    torch.testing.assert_close(as_map(found[:, 1:], (16, 12)), meta)
    without = backbones.interpolate_pos_embed(embedding, (37, 37), (16, 12), offset=0.0)
    assert (found - without).abs().max() > 1e-2


def test_embeddings_without_cls_and_in_low_precision() -> None:
    embedding = positions(6, prefix=0)
    found = backbones.interpolate_pos_embed(embedding.bfloat16(), (6, 6), (3, 3), offset=0.0)
    in_full = backbones.interpolate_pos_embed(embedding.bfloat16().float(), (6, 6), (3, 3), offset=0.0)
    assert found.dtype == torch.bfloat16
    assert found.shape == (1, 9, 5)
    assert torch.equal(found, in_full.bfloat16())  # rounded once, at the end


def test_an_offset_that_makes_another_grid_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"interpolate_offset=1\.0 turns a 37x37 .* 17x17 where 16x16 .* set it to 0\.0"
    ):
        backbones.interpolate_pos_embed(positions(37), (37, 37), (16, 16), offset=1.0)


def vit(img_size: int = 56) -> ViT:
    made = ViT(arch="tiny", img_size=img_size, embed_dim=24, depth=1, num_heads=3)
    torch.nn.init.normal_(made.vit.pos_embed, generator=torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("grid", [(2, 2), (3, 6), (7, 5)])
def test_positions_in_training_are_resampled_with_the_same_gradients(grid: tuple[int, int], antialias: bool) -> None:
    learnt = positions(4).requires_grad_()
    found = pos_embed.resample_learnt(learnt, (4, 4), grid, antialias, 0.1)
    wanted = backbones.interpolate_pos_embed(learnt, (4, 4), grid, antialias, 0.1)
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((each * weights).sum(), learnt)[0] for each in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_a_student_sees_direct_resamples_whatever_sizes_came_before() -> None:
    student = vit().train()
    for size in ((28, 28), (42, 42), (56, 84), (56, 56)):
        grid = (size[0] // 14, size[1] // 14)
        tokens, found = student.embed(torch.zeros(1, 3, *size))
        assert found == grid
        direct = backbones.interpolate_pos_embed(student.vit.pos_embed, (4, 4), grid)
        plain = torch.cat([student.vit.cls_token, student.patches(torch.zeros(1, 3, *size))[0]], dim=1)
        torch.testing.assert_close(tokens, plain + direct)
    assert student._positions((4, 4)) is student.vit.pos_embed  # nothing is resampled at its own size


def test_frozen_positions_are_resampled_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    interpolate = pos_embed.interpolate_pos_embed

    def counted(embedding: Tensor, grid: tuple[int, int], new_grid: tuple[int, int], *options: float) -> Tensor:
        calls.append(new_grid)
        return interpolate(embedding, grid, new_grid, *options)

    monkeypatch.setattr(pos_embed, "interpolate_pos_embed", counted)
    teacher = vit().requires_grad_(False).eval()
    small, large = torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 56, 84)
    with torch.inference_mode():
        first = teacher(small)
        for images in (small, small, large, large, small):
            teacher(images)
    assert calls == [(2, 2), (4, 6), (2, 2)]
    teacher.vit.pos_embed.mul_(2)
    assert (teacher(small).patches - first.patches).abs().max() > 1e-3  # not those of the weights before
    assert len(calls) == 4


def test_a_checkpoint_is_resampled_to_another_size_once() -> None:
    finished, finish = vit(56), vit(112)
    state = {f"student.{key}": value for key, value in finished.state_dict().items()}
    model = torch.nn.ModuleDict({"student": finish})
    assert fit_positions(model, state) == ["resampled student.vit.pos_embed from 17 to 65 positions"]
    model.load_state_dict(state)
    direct = backbones.interpolate_pos_embed(finished.vit.pos_embed, (4, 4), (8, 8))
    assert torch.equal(finish.vit.pos_embed, direct)
    assert fit_positions(model, state) == []


def test_positions_of_a_timm_model_are_resampled_too() -> None:
    finished, finish = (backbones.TimmBackbone("test_vit", img_size=side) for side in (64, 128))
    state = {f"student.{key}": value for key, value in finished.state_dict().items()}
    model = torch.nn.ModuleDict({"student": finish})
    assert fit_positions(model, state) == ["resampled student.model.pos_embed from 17 to 65 positions"]
    model.load_state_dict(state)
    patches = finished.model.pos_embed[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(patches, (8, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(finish.model.pos_embed[:, 1:], wanted.flatten(2).mT)
    assert torch.equal(finish.model.pos_embed[:, :1], finished.model.pos_embed[:, :1])
    assert fit_positions(model, state) == []
