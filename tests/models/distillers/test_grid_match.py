"""Teachers and students with different grids: on which one patches are compared, and what the step then computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor

from proteus.apis.model_cost import step_cost
from proteus.engine.hooks.teacher_cache import cache_fingerprint
from proteus.evaluation import TeacherAgreement
from proteus.models import Distiller, MultiStudentDistiller
from proteus.models.distillers.grid import resample, resample_masks
from proteus.models.distillers.grid_match import GridMatch
from proteus.models.initialization.fitted_heads import fit_heads
from proteus.structures import DataError, UserError

SIZE: dict[str, Any] = dict(type="ViT", arch="tiny", img_size=56, depth=1, interpolate_offset=0.0)
TEACHER: dict[str, Any] = dict(type="Teacher", backbone=dict(**SIZE, patch_size=14, embed_dim=32, num_heads=4))
# 4x4 patches as the teacher has, 7x7, 2x2, and 4x4 again of a teacher with patches of 16 px.
STUDENT: dict[str, Any] = dict(**SIZE, patch_size=14, embed_dim=24, num_heads=3, mask_token=True)
FINE, COARSE = {**STUDENT, "patch_size": 8}, {**STUDENT, "patch_size": 28}
OTHER: dict[str, Any] = dict(type="Teacher", backbone={**TEACHER["backbone"], "patch_size": 16, "img_size": 64})
OBJECTIVES: dict[str, Any] = dict(
    token=dict(type="TokenObjective"),
    feature=dict(type="FeatureObjective", cls_term="token"),
    patch=dict(type="PatchObjective"),
    gram=dict(type="PatchRelationObjective"),
    hidden=dict(type="HiddenStatesObjective"),
)


def built(student: dict[str, Any] = STUDENT, teacher: dict[str, Any] = TEACHER, **options: Any) -> Distiller:
    torch.manual_seed(0)
    return Distiller(
        copy.deepcopy(teacher), copy.deepcopy(student), **{"objectives": copy.deepcopy(OBJECTIVES), **options}
    )


def batch(cells: int, rows: int | None = None, size: tuple[int, int] = (56, 56)) -> dict[str, Any]:
    """Eight images, of which four are masked on a grid of ``rows x cells``."""
    generator = torch.Generator().manual_seed(1)
    count = (rows or cells) * cells
    masks = torch.rand(4, count, generator=generator).argsort(1) < torch.tensor([1, 3, 2, 2])[:, None] * count // 4
    return {
        "inputs": torch.rand(8, 3, *size, generator=generator),
        "masks": masks,
        "mask_indices": masks.flatten().nonzero().squeeze(1),
    }


def losses(model: Any, data: dict[str, Any]) -> dict[str, Tensor]:
    return model(**model.data_preprocessor(dict(data), True), mode="loss")


def by_hand(model: Distiller, data: dict[str, Any], grid: tuple[int, int]) -> dict[str, Tensor]:
    """The terms with both sides resampled to ``grid``, without the distiller's step."""
    objectives: Any = model.objectives
    images = model.data_preprocessor(dict(data), True)["inputs"]
    theirs, _, their_blocks = model.run_teacher(images)
    ours, masked, our_blocks = model.student.encode_with_hidden_states(images, data["masks"])
    theirs, clean, masked = (resample(each, grid) for each in (theirs, ours, masked))
    hidden = resample_masks(data["masks"], ours.grid, grid)
    token = F.mse_loss(objectives["token"].head(clean.cls), theirs.cls)
    patches = F.mse_loss(objectives["feature"].head(clean.patches), theirs.patches)
    count = grid[0] * grid[1]
    grams = [F.normalize(each.patches, dim=-1) for each in (clean, theirs)]
    basis = objectives["hidden"].basis
    errors = []
    for own, target in zip(our_blocks, their_blocks, strict=True):
        for share, left, right in (
            (0.25, own.cls, target.cls),
            (0.75, resample(own, grid).patches, resample(target, grid).patches),
        ):
            size = right.var(-1, correction=0) * right.shape[-1]
            errors.append(share * ((left - right @ basis.T).square().sum(-1) / size).mean())
    return {
        "loss_token": token,
        "loss_feature": (token + count * patches) / (1 + count),
        "loss_patch": F.mse_loss(objectives["patch"].head(masked.patches[hidden]), theirs.patches[:4][hidden]),
        "loss_gram": F.mse_loss(*(each @ each.mT for each in grams)),
        "loss_hidden": torch.stack(errors).sum(),
    }


@pytest.mark.parametrize(
    ("student", "cells", "match", "grid"),
    [
        (FINE, 7, "auto", (4, 4)),
        (COARSE, 2, "auto", (2, 2)),
        (FINE, 7, "finer", (7, 7)),
        (COARSE, 2, "teacher", (4, 4)),
        (FINE, 7, "student", (7, 7)),
        (STUDENT, 4, (3, 5), (3, 5)),
    ],
    ids=["fine", "coarse", "finer", "teacher", "student", "named"],
)
def test_every_objective_compares_on_the_common_grid(student: Any, cells: int, match: Any, grid: Any) -> None:
    model, data = built(student, grids=dict(match=match)), batch(cells)
    found = losses(model, data)
    expected = by_hand(model, data, grid)
    assert found.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    wanted = torch.autograd.grad(sum(expected.values()), list(learnt.values()))  # type: ignore[arg-type]
    sum(found.values()).backward()  # type: ignore[union-attr]
    for (name, p), gradient in zip(learnt.items(), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert all(p.grad is None for p in model.teacher.parameters())


def test_images_that_are_not_square() -> None:
    for student, grid in ((FINE, (7, 14)), (COARSE, (2, 4))):
        model, data = built(student), batch(grid[1], grid[0], (56, 112))
        assert model.student.grid_for((56, 112)) == grid
        common = (min(4, grid[0]), min(8, grid[1]))
        expected = by_hand(model, data, common) if losses(model, data) else {}
        found = losses(model, data)
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term, atol=1e-5, rtol=1e-5)
    model = built(teacher=OTHER)
    assert (model.teacher.input_size((56, 112)), model.teacher.grid_for((56, 112))) == ((64, 128), (4, 8))
    assert all(term.isfinite() for term in losses(model, batch(8, 4, (56, 112))).values())


def test_equal_grids_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    model = built()
    monkeypatch.setattr(model.objectives["gram"], "forward", lambda step, terms: seen.append(step) or torch.zeros(()))
    ours, theirs = [], []
    model.student.register_forward_hook(lambda *_: pytest.fail("encode_with_hidden_states is used"))
    run = model.run_teacher
    monkeypatch.setattr(model, "run_teacher", lambda images: theirs.append(run(images)) or theirs[-1])
    encode = model.student.encode_with_hidden_states
    monkeypatch.setattr(
        model.student, "encode_with_hidden_states", lambda *args: ours.append(encode(*args)) or ours[-1]
    )
    data = model.data_preprocessor(batch(4), True)
    model(**data, mode="loss")
    (step,) = seen
    assert step.teacher is theirs[0].features
    assert (step.student, step.masked) == (ours[0][0], ours[0][1])
    assert step.mask_indices is data["mask_indices"]
    assert model.describe_grids((56, 56)) is None
    for mode in ("bilinear", "antialias"):
        assert losses(built(grids=dict(mode=mode)), batch(4)) == losses(built(), batch(4))


def test_a_teacher_is_resized_within_a_third_and_resampled_beyond() -> None:
    for student, teacher, size, described in (
        (STUDENT, OTHER, (64, 64), "teacher's images resized to 64x64 px, where it has the student's 4x4 patches"),
        (COARSE, TEACHER, (56, 56), "student 2x2, teacher 4x4, compared on 2x2 patches (match='auto', mode='area')"),
        (FINE, TEACHER, (56, 56), "student 7x7, teacher 4x4, compared on 4x4 patches (match='auto', mode='area')"),
    ):
        model = built(student, teacher)
        assert model.teacher.input_size((56, 56)) == size
        assert str(model.describe_grids((56, 56))).startswith(described)
    asked = built(COARSE, grids=dict(match="teacher_size"))
    assert asked.teacher.input_size((56, 56)) == (28, 28)
    small = {**TEACHER, "img_size": 28}
    found, expected = losses(asked, batch(2)), losses(built(COARSE, small), batch(2))
    assert all(torch.equal(found[name], term) for name, term in expected.items())
    # Where grids are resampled, the teacher still needs images that divide into its patches.
    whole = built({**FINE, "img_size": 72}, grids=dict(match="coarser"))
    assert whole.teacher.input_size((72, 72)) == (70, 70)
    assert all(term.isfinite() for term in losses(whole, batch(9, size=(72, 72))).values())


def test_the_flops_are_those_of_the_size_that_the_teacher_gets() -> None:
    loader = dict(batch_size=4, collate_fn=dict(probability=0.5), dataset=dict())
    cfg = Config(dict(train_dataloader=loader))
    with torch.device("meta"):
        chosen, written = built(teacher=OTHER), built(teacher={**OTHER, "img_size": 64})
        small = built(teacher=OTHER, objectives=dict(token=OBJECTIVES["token"]))
        unequal = built(FINE)
    assert step_cost(chosen, cfg) == step_cost(written, cfg)
    small.teacher.img_size = 48
    assert step_cost(small, cfg).teacher_flops < step_cost(chosen, cfg).teacher_flops
    assert step_cost(unequal, cfg).step_flops > 0


def test_the_choice_is_logged_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("proteus.models.distillers.distiller.print_log", lambda line, logger: lines.append(line))
    model = built(COARSE)
    for size in (56, 56, 112):
        losses(model, batch(size // 28, size=(size, size)))
    losses(built(), batch(4))
    assert lines == [
        f"model.grids: student {own}, teacher {theirs}, compared on {own} patches (match='auto', mode='area')"
        for own, theirs in (("2x2", "4x4"), ("4x4", "8x8"))
    ]


def test_objectives_of_the_cls_token_change_nothing() -> None:
    model = built(COARSE, objectives=dict(token=OBJECTIVES["token"]), grids=dict(match="teacher_size"))
    assert model.teacher.input_size((56, 56)) == (56, 56)
    assert model.describe_grids((56, 56)) is None


@pytest.mark.parametrize("student", [FINE, COARSE], ids=["fine", "coarse"])
def test_parts_of_a_batch_are_the_whole_batch(student: dict[str, Any]) -> None:
    cells = 56 // student["patch_size"]
    objectives = {name: OBJECTIVES[name] for name in ("token", "feature", "patch")}
    found = []
    for parts in (1, 2):
        model = built(student, objectives=objectives, micro_batches=parts)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        found.append((model.train_step(batch(cells), wrapper), model.state_dict()))
    for one, other in zip(*found, strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_students_with_different_grids_share_teacher_and_masks() -> None:
    objectives = {name: OBJECTIVES[name] for name in ("token", "feature", "patch")}
    students = {
        name: dict(student={**each, "drop_path_rate": 0.0}, objectives=objectives)
        for name, each in (("fine", FINE), ("equal", STUDENT), ("coarse", COARSE))
    }
    models = []
    for parts in (1, 2):
        torch.manual_seed(0)
        models.append(MultiStudentDistiller(copy.deepcopy(TEACHER), copy.deepcopy(students), micro_batches=parts))
    data = batch(4)
    together = losses(models[0], data)
    for name, config in students.items():
        alone = built(config["student"], objectives=objectives)
        cells = 56 // config["student"]["patch_size"]
        masks = resample_masks(data["masks"], (4, 4), (cells, cells))
        own = {**data, "masks": masks, "mask_indices": masks.flatten().nonzero().squeeze(1)}
        for key, value in losses(alone, own).items():
            torch.testing.assert_close(together[f"{name}.{key}"], value, atol=1e-6, rtol=0)
    logs = [m.train_step(dict(data), OptimWrapper(torch.optim.SGD(m.parameters(), lr=0.1))) for m in models]
    for key, value in logs[0].items():
        torch.testing.assert_close(logs[1][key], value, atol=1e-5, rtol=1e-5, msg=lambda m, k=key: f"{k}: {m}")

    samples = models[0].eval()(
        data["inputs"], data_samples=data_samples(*({"img_path": str(n)} for n in range(8))), mode="predict"
    )
    metric = TeacherAgreement()
    metric.process({}, samples)
    found = metric.evaluate(8)
    assert {f"centered_cosine/{name}.patch" for name in students} < set(found)


def test_students_that_ask_for_one_teacher_size_get_it() -> None:
    def multi(first: Any, second: Any, **grids: Any) -> MultiStudentDistiller:
        objectives = dict(feature=dict(type="FeatureObjective"))
        students = dict(
            first=dict(student=first, objectives=objectives, grids=grids),
            second=dict(student=second, objectives=objectives, grids=grids),
        )
        return MultiStudentDistiller(copy.deepcopy(OTHER), copy.deepcopy(students))

    assert multi(STUDENT, STUDENT).teacher.input_size((56, 56)) == (64, 64)
    assert multi(COARSE, COARSE, match="teacher_size").teacher.input_size((56, 56)) == (32, 32)
    with pytest.raises(
        UserError, match=r"different sizes of one teacher \(model\.students\.first: 64x64 px, .*32x32 px"
    ):
        multi(STUDENT, COARSE, match="teacher_size")


def test_students_without_a_common_teacher_size_leave_it_whole_patches() -> None:
    objectives = dict(feature=dict(type="FeatureObjective"))
    # Images of 72 px: the first student asks for 84 px, the second has 9x9 patches, too many for the teacher's.
    students = {
        name: dict(student={**STUDENT, "patch_size": patch, "img_size": 72}, objectives=objectives)
        for name, patch in (("first", 12), ("second", 8))
    }
    model = MultiStudentDistiller(copy.deepcopy(TEACHER), students)
    assert model.teacher.input_size((72, 72)) == (70, 70)
    assert model.teacher.input_size((84, 84)) == (84, 84)


def test_cached_tokens_are_resampled_as_they_are_read() -> None:
    model = built(COARSE, objectives=dict(feature=dict(type="FeatureObjective")))
    data = model.data_preprocessor({"inputs": batch(2)["inputs"]}, True)
    wanted = model(**data, mode="loss")["loss_feature"]
    tokens = model.teacher(data["inputs"])
    assert tokens.grid == (4, 4)
    model.teacher.backbone.register_forward_hook(lambda *_: pytest.fail("the teacher was run"))
    found = model(**data, teacher_cls=tokens.cls, teacher_patches=tokens.patches, mode="loss")["loss_feature"]
    assert torch.equal(found, wanted)
    with pytest.raises(DataError, match=r"cached tokens are 9 patches of an image, and model\.teacher makes 4x4 of it"):
        model(**data, teacher_cls=tokens.cls, teacher_patches=tokens.patches[:, :9], mode="loss")


def test_a_cache_is_that_of_the_size_which_the_teacher_gets() -> None:
    class Views:
        def identity(self) -> dict[str, Any]:
            return {}

    def size(**options: Any) -> Any:
        model = built(teacher=OTHER, **options)
        return cache_fingerprint(model, {"teacher": OTHER}, Views())["teacher"]["img_size"]  # type: ignore[arg-type]

    assert (size(), size(objectives=dict(token=OBJECTIVES["token"]))) == (64, None)


def test_heads_are_fitted_on_the_common_grid() -> None:
    objectives = dict(feature=dict(type="FeatureObjective"), patch=OBJECTIVES["patch"])
    model = built(COARSE, objectives=objectives).eval()
    images = model.data_preprocessor({"inputs": batch(2)["inputs"]})["inputs"]
    before = losses(model, batch(2))
    assert fit_heads(model, images) == ["feature", "patch"]
    assert losses(model, batch(2))["loss_feature"] < before["loss_feature"]


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        (dict(match="nearest"), r"^model\.grids\.match='nearest': choose from: 'auto', .*or a grid such as \(7, 7\)$"),
        (dict(match=(0, 4)), r"^model\.grids\.match=\(0, 4\): write two whole numbers"),
        (dict(match=[4]), r"^model\.grids\.match=\[4\]: write two whole numbers"),
        (dict(mode="bicubic"), r"^model\.grids\.mode='bicubic': choose from: 'area', 'bilinear', 'antialias'$"),
        (dict(grid=(4, 4)), r"^model\.grids\.grid: unknown key; it takes match and mode$"),
        ("coarser", r"^model\.grids='coarser': write dict\(match='coarser', mode='area'\)"),
    ],
)
def test_what_is_refused(grids: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GridMatch.from_config(grids, "model.grids")


def test_what_is_refused_when_it_is_built() -> None:
    with pytest.raises(
        UserError, match=r"match='teacher_size', and model\.teacher has 2x2 patches, the student 4x4: rem"
    ):
        built(teacher={**TEACHER, "img_size": 28}, grids=dict(match="teacher_size"))
    fixed = dict(type="TimmBackbone", arch="test_vit", img_size=64, dynamic_img_size=False)
    odd = dict(type="Teacher", backbone=fixed)
    with pytest.raises(
        UserError, match=r"^model\.grids\.match='teacher_size': found no size of model\.teacher that gives"
    ):
        built(COARSE, odd, objectives=dict(feature=dict(type="FeatureObjective")), grids=dict(match="teacher_size"))
    shifted = dict(type="ShiftDataPreprocessor", patch_size=14)
    with pytest.raises(UserError, match=r"^model\.grids\.match='finer': ShiftDataPreprocessor shifts views"):
        built(data_preprocessor=shifted, grids=dict(match="finer"))
    with pytest.raises(UserError, match=r"patch_size=14: model\.student has 2x2 patches .*write patch_size=28"):
        built(COARSE, data_preprocessor=shifted)


def test_shifted_views_are_compared_on_the_students_grid() -> None:
    objectives = {name: OBJECTIVES[name] for name in ("feature", "patch", "gram")} | {"token": OBJECTIVES["token"]}
    model = built(
        COARSE, objectives=objectives, data_preprocessor=dict(type="ShiftDataPreprocessor", shift=1, patch_size=28)
    )
    data = model.data_preprocessor(batch(3, size=(84, 84)), True)
    shift, images = data["shift"], data["inputs"]
    found = model(**data, mode="loss")["loss_feature"]
    ours = shift.common(model.student(images), shift.student)
    theirs = shift.common(resample(model.teacher(data["teacher_inputs"]), (2, 2)), shift.teacher)
    token = F.mse_loss(model.objectives["token"].head(ours.cls), theirs.cls)
    patches = F.mse_loss(model.objectives["feature"].head(ours.patches), theirs.patches)
    count = ours.patches.shape[1]
    torch.testing.assert_close(found, (token + count * patches) / (1 + count), atol=1e-6, rtol=1e-5)
