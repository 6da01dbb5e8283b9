from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.models import Teacher, ViT
from proteus.models.initialization import slice_teacher

LARGE = dict(type="ViT", arch="tiny", img_size=28, embed_dim=64, depth=4, num_heads=4, init_values=0.5)
SMALL = dict(arch="tiny", img_size=28, embed_dim=32, depth=4, num_heads=2, mask_token=True)


def images(count: int = 64, seed: int = 0) -> Tensor:
    """Smooth random pictures: of noise alone, a random ViT's cls token is the same for all."""
    coarse = torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(2 * coarse, size=28, mode="bicubic")


def teacher(**options: Any) -> Teacher:
    """A ViT in which every part matters: gains, biases, LayerScales and weights of several sizes."""
    given = {key: options.pop(key) for key in ("mean", "std", "input_mean", "input_std") if key in options}
    torch.manual_seed(0)
    made = Teacher(backbone={**LARGE, **options}, dtype="float32", **given)
    for name, parameter in made.backbone.named_parameters():
        noise = torch.randn_like(parameter)
        parameter.data.add_(noise * (0.1 if parameter.ndim == 2 and "attn" in name else 0.05))
    return made


def student(**options: Any) -> ViT:
    return ViT(**{**SMALL, **options}).eval()


def residual(found: Tensor, wanted: Tensor) -> float:
    """What a linear map of ``found`` leaves of the variance of ``wanted``."""
    found, wanted = (tokens.flatten(0, -2).double() for tokens in (found, wanted))
    found, wanted = found - found.mean(0), wanted - wanted.mean(0)
    left = wanted - found @ torch.linalg.lstsq(found, wanted).solution
    return (left.square().sum() / wanted.square().sum()).item()


def test_as_large_as_the_teacher_it_is_the_teacher_in_other_coordinates() -> None:
    source = teacher()
    ours = student(embed_dim=64, num_heads=4)
    errors = slice_teacher(ours, source, images())
    assert len(errors) == 4
    assert max(errors) < 1e-3
    # On images that it was not fitted on. Both end in a LayerNorm; the teacher's gain and bias are a linear map.
    fresh = images(32, seed=1)
    with torch.no_grad():
        assert residual(ours(fresh).cls, source(fresh).cls) < 2e-3
        assert residual(ours(fresh).patches, source(fresh).patches) < 2e-3


def test_distances_between_cls_tokens_are_the_teachers_and_their_mean_is_zero() -> None:
    source = teacher()
    source.backbone.vit.norm.weight.data.uniform_(0.2, 4.0)
    ours = student(embed_dim=64, num_heads=4)
    slice_teacher(ours, source, images())
    fresh = images(32, seed=1)
    with torch.no_grad():
        wanted = torch.pdist(source(fresh).cls)
        found, without_gains = (torch.pdist(cls) for cls in (ours(fresh).cls, ours(fresh).cls / ours.vit.norm.weight))
        cls = ours(images()).cls
    wrong, chance = ((each / each.mean() * wanted.mean() - wanted).abs().mean() for each in (found, without_gains))
    assert wrong < 0.5 * chance
    assert abs(found.mean() / wanted.mean() - 1) < 0.03
    assert cls.mean(0).abs().max() < 1e-4 * cls.std()


def test_the_hidden_units_that_write_most_stay() -> None:
    source = teacher()
    for block in source.backbone.vit.blocks:
        block.mlp.fc2.weight.data[:, ::2] *= 1e-3
    ours = student()
    slice_teacher(ours, source, images())
    for mine, given in zip(ours.vit.blocks, source.backbone.vit.blocks, strict=True):
        units = given.mlp.fc1.weight @ given.norm2.bias + given.mlp.fc1.bias
        torch.testing.assert_close(mine.mlp.fc1.bias, units[1::2])


@pytest.mark.parametrize(
    "other",
    [
        dict(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), input_mean=(0.4, 0.5, 0.6), input_std=(0.2, 0.3, 0.4)),
        dict(img_size=56),  # 4 x 4 positions, interpolated to 2 x 2
    ],
    ids=["statistics", "positions"],
)
def test_the_students_statistics_and_grid_are_its_own(other: dict[str, Any]) -> None:
    assert max(slice_teacher(student(embed_dim=64, num_heads=4), teacher(**other), images())) < 1e-3


def test_a_half_is_nearer_than_chance_and_leaves_the_teacher_alone() -> None:
    source = teacher()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    ours = student()
    errors = slice_teacher(ours, source, images())
    assert all(error < 0.6 for error in errors)
    assert all(torch.equal(source.state_dict()[name], value) for name, value in before.items())
    fresh = images(32, seed=1)
    with torch.no_grad():
        wanted = source(fresh).patches
        assert residual(ours(fresh).patches, wanted) < 0.6 * residual(student()(fresh).patches, wanted)


def test_it_does_not_depend_on_how_many_are_encoded_at_a_time() -> None:
    one, other = student(), student()
    slice_teacher(one, teacher(), images(), batch_size=64)
    slice_teacher(other, teacher(), images(), batch_size=20)
    with torch.no_grad():
        # Principal directions have no sign, so that the coordinates are not the same.
        assert residual(one(images()).cls, other(images()).cls) < 1e-3


def test_fewer_blocks_are_evenly_spaced_ones() -> None:
    source = teacher()
    ours = student(embed_dim=64, num_heads=4, depth=2)
    errors = slice_teacher(ours, source, images())
    # Blocks 0 and 2 of 4: reading weights are the teacher's in other coordinates, so that their products agree.
    for mine, original in ((0, 0), (1, 2)):
        given = source.backbone.vit.blocks[original]
        weight = (given.mlp.fc1.weight * given.norm2.weight).T
        weight = weight - weight.mean(0)
        found = ours.vit.blocks[mine].mlp.fc1.weight
        torch.testing.assert_close(
            F.normalize((found @ found.T).flatten(), dim=0),
            F.normalize((weight.T @ weight).flatten(), dim=0),
            atol=1e-4,
            rtol=1e-3,
        )
    assert errors[-1] < 0.9


def test_more_blocks_than_the_teachers_write_nothing_and_learn() -> None:
    ours = student(embed_dim=64, num_heads=4, depth=6)
    errors = slice_teacher(ours, teacher(), images())
    assert len(errors) == 4
    assert max(errors) < 1e-3
    alike = student(embed_dim=64, num_heads=4)
    slice_teacher(alike, teacher(), images())
    with torch.no_grad():
        torch.testing.assert_close(torch.pdist(ours(images()).cls), torch.pdist(alike(images()).cls), rtol=1e-2, atol=0)
    ours(images()).patches.square().sum().backward()
    for block in ours.vit.blocks[4:]:
        assert block.mlp.fc2.weight.grad.abs().sum() > 0
        assert block.attn.proj.weight.grad.abs().sum() > 0


def test_the_mask_token_is_the_mean_patch() -> None:
    ours = student()
    slice_teacher(ours, teacher(), images())
    with torch.no_grad():
        torch.testing.assert_close(ours.mask_token, ours.patches(images())[0].mean((0, 1))[None])


def test_registers_come_along() -> None:
    ours = student(embed_dim=64, num_heads=4, reg_tokens=2)
    assert max(slice_teacher(ours, teacher(reg_tokens=2), images())) < 1e-3


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (dict(patch_size=7), {}, "keeps the teacher's patch_size, 14, and model.student has 7"),
        (dict(reg_tokens=4), {}, "reg_tokens"),
        (dict(num_heads=4), {}, "width of a head, 16, and model.student has 8"),
        (dict(embed_dim=80, num_heads=5), {}, "embed_dim is 80"),
        (dict(arch="clip-base", patch_size=14), {}, "model.student: .*norm before the blocks"),
        ({}, dict(arch="clip-base", patch_size=14), "model.teacher.backbone: .*norm before the blocks"),
    ],
)
def test_what_does_not_fit_is_refused(ours: dict, theirs: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        slice_teacher(student(**ours), Teacher(backbone={**LARGE, **theirs}, dtype="float32"), images(2))


def test_only_a_vit_is_a_slice() -> None:
    with pytest.raises(ValueError, match=r"model\.student is Linear"):
        slice_teacher(torch.nn.Linear(1, 1), teacher(), images(2))
