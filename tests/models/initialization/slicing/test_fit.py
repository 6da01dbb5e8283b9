from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sliced_vits import images, residual, share_of_units, student, teacher

from proteus.models.initialization import slice_teacher


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
    bases: list[torch.Tensor] = []
    slice_teacher(ours, source, images(), on_basis=bases.append)
    for mine, given in zip(ours.vit.blocks, source.backbone.vit.blocks, strict=True):
        odd = range(1, len(given.mlp.fc1.weight), 2)
        assert share_of_units(mine.mlp.fc1.weight, given.mlp.fc1.weight * given.norm2.weight, bases[0], odd) > 0.95


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
    # Blocks 0 and 2 of 4: reading weights are nearly the teacher's in other coordinates, so that their products agree.
    for mine, original in ((0, 0), (1, 2)):
        found = ours.vit.blocks[mine].mlp.fc1.weight
        alike = []
        for given in source.backbone.vit.blocks:
            weight = (given.mlp.fc1.weight * given.norm2.weight).T
            weight = weight - weight.mean(0)
            alike.append(F.cosine_similarity((found @ found.T).flatten(), (weight.T @ weight).flatten(), dim=0).item())
        assert max(alike) == alike[original] > 0.9
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


def test_a_student_in_half_precision_is_the_rounded_one() -> None:
    ours, rounded = student(), student().to(torch.bfloat16)
    slice_teacher(ours, teacher(), images())
    slice_teacher(rounded, teacher(), images().to(torch.bfloat16).float())
    assert all(value.dtype == torch.bfloat16 for value in rounded.state_dict().values())
    with torch.no_grad():
        found = rounded(images().to(torch.bfloat16)).patches.float()
        assert residual(found, ours(images()).patches) < 0.02


def test_a_teacher_in_half_precision_is_sliced_in_float32() -> None:
    source = teacher()
    source.backbone.to(torch.bfloat16)
    ours = student(embed_dim=64, num_heads=4)
    assert max(slice_teacher(ours, source, images())) < 1e-3
    assert next(source.backbone.parameters()).dtype == torch.bfloat16


def test_training_mode_and_drop_path_do_not_change_the_fit() -> None:
    one, other = student(), student(drop_path_rate=0.5).train()
    slice_teacher(one, teacher(), images())
    slice_teacher(other, teacher(), images())
    assert other.training
    assert all(torch.equal(other.state_dict()[name], value) for name, value in one.state_dict().items())


def test_more_width_leaves_less_unexplained() -> None:
    source = teacher(strong=True)
    errors = [slice_teacher(student(embed_dim=16 * n, num_heads=n), source, images())[-1] for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[2]
    assert errors[3] < 1e-3


def test_each_block_is_reported() -> None:
    reported: list[tuple[int, int, float]] = []
    errors = slice_teacher(student(), teacher(), images(), on_block=lambda *block: reported.append(block))
    assert reported == [(number, 4, error) for number, error in enumerate(errors, 1)]
