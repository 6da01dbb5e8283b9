from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from several_teachers import FIRST, LARGER, OBJECTIVES, SECOND, STUDENT, batch, fill
from torch import Tensor
from two_ranks import on_two_ranks

from proteus.models import Distiller, ForeachEMA, MultiTeacherDistiller
from proteus.models.flops import distillation_flops
from proteus.structures import UserError

PHI: dict[str, Any] = dict(type="PHIStandardization", images=0, steps=3)
TWO: dict[str, Any] = dict(
    first=dict(teacher=FIRST, objectives=OBJECTIVES, drop=0.4),
    second=dict(
        teacher=SECOND,
        objectives=OBJECTIVES,
        weight=0.5,
        drop=0.4,
        standardization=dict(type="ChannelStandardization", images=0, steps=3),
    ),
)


def changed(**second: Any) -> dict[str, Any]:
    return {**TWO, "second": {key: value for key, value in {**TWO["second"], **second}.items() if value is not ...}}


def built(teachers: dict[str, Any] = TWO, **options: Any) -> MultiTeacherDistiller:
    torch.manual_seed(0)
    model = MultiTeacherDistiller(copy.deepcopy(teachers), copy.deepcopy(STUDENT), **options)
    return fill(model)


def trained(model: Any, wrapped: Any = None, steps: range = range(4), images: slice = slice(None)) -> list[Any]:
    """Losses of each step, with the rate at which weights move far beyond rounding."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    logs = [(wrapped or model).train_step(batch(step, images), wrapper) for step in steps]
    return [{name: value.detach() for name, value in log.items()} for log in logs]


def test_one_teacher_is_that_of_a_distiller() -> None:
    torch.manual_seed(0)
    single = fill(Distiller(copy.deepcopy(FIRST), copy.deepcopy(STUDENT), copy.deepcopy(OBJECTIVES)))
    several = built(dict(first=dict(teacher=FIRST, objectives=OBJECTIVES)))
    expected, found = trained(single), trained(several)
    for one, other in zip(expected, found, strict=True):
        assert {name.replace("first/", ""): value for name, value in other.items()} == one
    state = {key.replace("teachers.first.", ""): value for key, value in several.state_dict().items()}
    assert state.keys() == single.state_dict().keys()
    for key, value in single.state_dict().items():
        assert torch.equal(state[key], value), key


def test_terms_equal_naive_ones() -> None:
    model, reference = (built(changed(drop=0.0)) for _ in range(2))
    model.dropping = reference.dropping = None
    trained(model, steps=range(1))
    reference.load_state_dict(model.state_dict())
    data = model.data_preprocessor(batch(1), True)
    found = model(**data, mode="loss")
    clean = reference.student(data["inputs"])
    masked = reference.student(data["inputs"], data["masks"])
    pixels = batch(1)["inputs"]
    larger = F.interpolate((pixels - 0.5) / 0.5, size=(64, 64), mode="bicubic", antialias=True)
    for name, weight, images in (("first", 1.0, data["inputs"]), ("second", 0.5, larger)):
        pair: Any = reference.teachers[name]
        targets = pair.teacher.backbone(images)
        cls, patches = targets.cls, targets.patches
        if name == "second":  # those of step 0
            earlier = F.interpolate((batch(0)["inputs"] - 0.5) / 0.5, size=(64, 64), mode="bicubic", antialias=True)
            seen = pair.teacher.backbone(earlier)
            cls = (cls - seen.cls.mean(0)) / (seen.cls.var(0, correction=0) + 1e-5).sqrt()
            rows = seen.patches.flatten(0, 1)
            patches = (patches - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        heads = {key: objective.head for key, objective in pair.objectives.items()}
        token = F.mse_loss(heads["token"](clean.cls), cls)
        feature = (token + 16 * F.mse_loss(heads["feature"](clean.patches), patches)) / 17
        patch = F.mse_loss(heads["patch"](masked.patches[data["masks"]]), patches[data["masks"]])
        for key, term in (("token", token), ("feature", feature), ("patch", patch)):
            torch.testing.assert_close(found[f"{name}/loss_{key}"], weight * term, rtol=1e-4, atol=1e-4)
    assert len(found) == 6


def test_a_step_in_parts_is_the_step() -> None:
    balance = dict(type="LossMagnitudeBalance", momentum=0.5)
    whole, parts = built(balance=balance), built(balance=balance, micro_batches=2)
    for expected, found in zip(trained(whole), trained(parts), strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_teachers_are_dropped_and_never_all() -> None:
    model = built()
    ran: list[str] = []
    for name, teacher in model.teachers_by_name.items():
        teacher.backbone.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    heads = {name: [*pair.objectives.parameters()] for name, pair in model.distillers.items()}
    kinds = set()
    for step in range(12):
        ran.clear()
        model.zero_grad()
        losses = model(**model.data_preprocessor(batch(step), True), mode="loss")
        sum(losses.values()).backward()
        present = {name.split("/")[0] for name in losses}
        assert present
        assert present == set(ran)
        kinds.add(tuple(sorted(present)))
        for name, parameters in heads.items():  # each has a gradient, as DistributedDataParallel demands
            moved = [bool(parameter.grad.any()) for parameter in parameters]
            assert all(moved) if name in present else not any(moved)
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert kinds == {("first",), ("second",), ("first", "second")}
    model.eval()
    assert {name.split("/")[0] for name in model(**model.data_preprocessor(batch(0), False), mode="loss")} == {*TWO}


def test_a_resumed_run_continues_bit_for_bit() -> None:
    options = {"balance": dict(type="LossMagnitudeBalance")}
    model = built(changed(standardization=PHI), **options)
    average = ForeachEMA(model, momentum=0.5)
    trained(model, steps=range(3))
    average.update_parameters(model)
    state = copy.deepcopy(model.state_dict())
    assert average.module.state_dict().keys() == state.keys()
    assert average.module.student is average.module.teachers["first"].student is not model.student
    resumed = built(changed(standardization=PHI), **options)
    resumed.load_state_dict(state)
    expected, found = trained(model, steps=range(3, 9)), trained(resumed, steps=range(3, 9))
    assert found == expected
    assert len({tuple(log) for log in found}) > 1  # of other teachers
    for key, value in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_predictions_for_each_teacher_are_in_its_space() -> None:
    model = built(changed(standardization=PHI, drop=0.0))
    trained(model)
    model.eval()
    inputs = model.data_preprocessor(batch(0), False)["inputs"]
    with torch.no_grad():
        found = model(inputs, data_samples(*[{"img_path": str(image)} for image in range(16)]), mode="predict")
        student = model.student(inputs)
    assert [each["img_path"] for each in found] == [str(image) for image in range(16)]
    pair: Any = model.teachers["second"]
    stat, head = pair.standardization, pair.objectives["token"].head
    expected = stat.cls_scale * head(student.cls) @ stat.cls_rotation + stat.cls_mean
    torch.testing.assert_close(torch.stack([each["second/student_cls"] for each in found]), expected)
    teacher = torch.stack([each["second/teacher_cls"] for each in found])
    torch.testing.assert_close(teacher, pair.teacher(inputs).cls)
    assert found[0]["first/student_patches"].shape == (16, 32)
    assert torch.equal(model(inputs).cls, model.student(inputs).cls)


@pytest.mark.parametrize("parts", [1, 2])
def test_cached_teachers_do_not_run(parts: int) -> None:
    model, cached = built(changed(drop=0.0)), built(changed(drop=0.0), micro_batches=parts)
    model.dropping = cached.dropping = None
    cached.teachers["second"].teacher.backbone.register_forward_pre_hook(lambda *_: pytest.fail("has run"))
    data = batch(0)
    tokens = model.teachers["second"].teacher(model.data_preprocessor(data, True)["inputs"])
    given = {**data, "teacher_cls": {"second": tokens.cls}, "teacher_patches": {"second": tokens.patches}}
    wrapper = OptimWrapper(torch.optim.SGD(cached.parameters(), lr=0.0))
    found = cached.train_step(given, wrapper)
    expected = model.train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        UserError, match=r"cache is one folder, and the run has several teachers: write cache=dict\(first"
    ):
        model(data["inputs"], teacher_cls=tokens.cls, teacher_patches=tokens.patches, mode="loss")


def test_flops_are_those_of_all_teachers() -> None:
    config = dict(type="MultiTeacherDistiller", teachers=TWO, student=STUDENT)
    one = dict(config, teachers=dict(TWO, second=None))
    tokens = {"second": torch.zeros(16, 12)}, {"second": torch.zeros(16, 16, 12)}
    given = {**batch(0), "teacher_cls": tokens[0], "teacher_patches": tokens[1]}
    whole, cached, alone = (
        distillation_flops(each, data) or 0 for each, data in ((config, batch(0)), (config, given), (one, batch(0)))
    )
    assert whole > cached > alone > 0  # the heads remain


RANK = """
from test_multi_teacher import built, trained, changed
from proteus.engine import DataParallel

model = built(balance=dict(type="LossMagnitudeBalance"))
logs = trained(model, DataParallel(model), images=slice(8 * rank, 8 * rank + 8))
result = (logs, {key: value for key, value in model.state_dict().items()})
"""


@pytest.mark.slow
def test_two_ranks_learn_as_one(tmp_path: Path) -> None:
    model = built(balance=dict(type="LossMagnitudeBalance"))
    logs = trained(model)
    (first, state), (second, other) = on_two_ranks(RANK, __file__, tmp_path)
    for log, one, two in zip(logs, first, second, strict=True):
        assert one.keys() == two.keys() == log.keys()
        for name, value in log.items():
            torch.testing.assert_close((one[name] + two[name]) / 2, value, rtol=1e-5, atol=1e-5)
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], other[key]), key
        torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def refused(teachers: dict[str, Any], **options: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (its text is compared)
        built(teachers, **options)
    return str(error.value)


def test_what_is_refused() -> None:
    second = TWO["second"]
    for name in ("student", "cls", "heads", "dino v2", "keys"):
        assert f"model.teachers.{name}: {name!r} has another meaning" in refused({name: second})
    assert "model.teachers is empty" in refused(dict(first=None))
    assert "model.teachers.first='dinov2': write dict(teacher=dict(...)," in refused(dict(first="dinov2"))
    assert "model.teachers.second has no 'objectives': it takes teacher, objectives" in refused(changed(objectives=...))
    assert "model.teachers.second has an unknown key 'student'" in refused(changed(student=STUDENT))
    assert "model.teachers.second.weight=0: write a number above 0" in refused(changed(weight=0))
    assert "model.teachers.second.standardization='phi-s': write dict(type='PHIStandardization')" in refused(
        changed(standardization="phi-s")
    )
    assert "model.teachers.second.drop=1 leaves the teacher out" in refused(changed(drop=1))
    assert "model.teachers.second.drop=-0.5: write a number from 0 to 1" in refused(changed(drop=-0.5))
    assert "model.teachers.second.objectives is empty" in refused(changed(objectives={}))
    other = dict(feature=dict(OBJECTIVES["feature"], cls_term="first/token"))
    assert "model.teachers.second.objectives.feature.cls_term='first/token' must name" in refused(
        changed(objectives=other)
    )
    logits = dict(logits=dict(type="LogitsObjective", num_classes=3))
    assert "set model.teachers.second.teacher.classifier" in refused(changed(objectives=logits))
    with pytest.raises(KeyError, match="Whitening"):
        built(changed(standardization=dict(type="Whitening")))
    assert (
        "model.teachers.second.teacher.img_size=70: model.teachers.second.teacher.backbone does not take images of "
        "this size; write 64 or 80" in refused(changed(teacher=dict(SECOND, img_size=70)))
    )
    grids = dict(match="teacher_size")
    smaller = dict(SECOND, backbone=dict(LARGER, patch_size=32))
    assert (
        "model.teachers.second.grids.match='teacher_size', and model.teachers.second.teacher has 2x2 patches, the "
        "student 4x4: remove model.teachers.second.teacher.img_size" in refused(changed(teacher=smaller, grids=grids))
    )
    absent: dict[str, Any] = dict(teacher=dict(type="NoTeacher"), objectives=dict(label=dict(type="LabelObjective")))
    assert "model.teachers.none.standardization needs a teacher" in refused(
        dict(none=dict(absent, standardization=PHI))
    )


def test_a_mask_token_without_a_masked_objective_is_frozen() -> None:
    token: dict[str, Tensor] = {"token": OBJECTIVES["token"]}
    only = dict(TWO["first"], objectives=token)
    assert built(dict(first=only, second=TWO["second"])).student.mask_token.requires_grad
    assert not built(dict(first=only)).student.mask_token.requires_grad
