"""Several students of one teacher are what each of them would be alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from torch import Tensor

from proteus.checkpoints import CheckpointError
from proteus.evaluation import TeacherAgreement
from proteus.models import Distiller, MultiStudentDistiller

SIZE = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=2, interpolate_offset=0.0)
TEACHER = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4))
CLASSIFYING = {**TEACHER, "classifier": dict(type="LinearClassifier", num_classes=5, layers=2)}
ALL = dict(
    token=dict(type="TokenObjective"),
    feature=dict(type="FeatureObjective", cls_term="token"),
    patch=dict(type="PatchObjective"),
)


def student(width: int = 24, **options: Any) -> dict[str, Any]:
    # Drop path draws in each step.
    return {**SIZE, "embed_dim": width, "num_heads": 3, "mask_token": True, "drop_path_rate": 0.3, **options}


STUDENTS: dict[str, Any] = dict(
    tiny=dict(student=student(24), objectives=ALL),
    small=dict(student=student(48), objectives=ALL),
    narrow=dict(student=student(36), objectives=dict(token=ALL["token"])),
)


def built(kind: type = MultiStudentDistiller, teacher: dict[str, Any] | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(teacher=copy.deepcopy(teacher or TEACHER), **copy.deepcopy(options))


def batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, 16, generator=generator) < 0.5
    images = torch.rand(4, 3, 56, 56, generator=generator)
    return {"inputs": images, "masks": masks, "mask_indices": masks.flatten().nonzero().squeeze(1)}


def trained(model: Any, steps: int = 4) -> list[dict[str, Tensor]]:
    """Train as a runner does; returns what is logged."""
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.05))
    model.train()
    logs = []
    for step in range(steps):
        torch.manual_seed(step)  # SeedEachStepHook
        logs.append(model.train_step(batch(step), wrapper))
    return logs


@pytest.mark.parametrize(("teacher", "parts"), [(TEACHER, 1), (TEACHER, 2), (CLASSIFYING, 1)])
def test_each_is_what_it_would_be_alone(teacher: dict[str, Any], parts: int) -> None:
    students = copy.deepcopy(STUDENTS)
    if "classifier" in teacher:
        students["narrow"]["objectives"] = dict(logits=dict(type="LogitsObjective", num_classes=5))
    together = built(teacher=teacher, students=students, micro_batches=parts)
    logs = trained(together)
    for name, config in students.items():
        alone = built(Distiller, teacher, **config, micro_batches=parts)
        for found, wanted in zip(logs, trained(alone), strict=True):
            for key, value in wanted.items():
                if key != "loss":
                    torch.testing.assert_close(found[f"{name}.{key}"], value, atol=1e-6, rtol=0)
        state = together.students[name].state_dict()
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(state[key], value, atol=1e-6, rtol=0)


def test_a_student_does_not_depend_on_the_others() -> None:
    together = built(students=STUDENTS)
    for name in STUDENTS:
        for key, value in built(Distiller, **STUDENTS[name]).state_dict().items():
            assert torch.equal(together.students[name].state_dict()[key], value), key


def test_the_teacher_runs_once_for_all() -> None:
    model = built(students=STUDENTS)
    passes: list[int] = []
    model.teacher.backbone.register_forward_hook(lambda *_: passes.append(1))
    losses = model(**batch(), mode="loss")
    assert len(passes) == 1
    assert sorted(losses) == sorted(
        [f"{name}.loss_{term}" for name in ("tiny", "small") for term in ALL] + ["narrow.loss_token"]
    )
    total, log = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    assert {"loss", *losses} == set(log)


def test_cached_tokens_spare_the_teacher() -> None:
    model = built(students=STUDENTS).eval()
    losses = model(**batch(), mode="loss")
    features = model.teacher(batch()["inputs"])
    model.teacher.backbone.register_forward_hook(lambda *_: pytest.fail("the teacher was run"))
    cached = {"teacher_cls": features.cls, "teacher_patches": features.patches}
    for key, value in model(**batch(), **cached, mode="loss").items():
        torch.testing.assert_close(value, losses[key])


def test_parts_of_a_batch_are_the_whole_batch() -> None:
    students = {
        name: {**each, "student": {**each["student"], "drop_path_rate": 0.0}} for name, each in STUDENTS.items()
    }
    whole, parts = built(students=students), built(students=students, micro_batches=2)
    for one, other in zip(trained(whole), trained(parts), strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, atol=1e-5, rtol=0)


def test_random_numbers_advance_after_a_step() -> None:
    model = built(students=STUDENTS).train()
    first, second = (model(**batch(), mode="loss")["tiny.loss_token"] for _ in range(2))
    assert first != second


def test_an_interrupted_step_leaves_no_random_numbers_for_the_next() -> None:
    model, other = built(students=STUDENTS, micro_batches=2).train(), built(students=STUDENTS, micro_batches=2)
    model(**batch(), last_part=False, mode="loss")  # the first part, and then an error
    assert trained(model, 1) == trained(other, 1)


def test_nothing_of_the_teacher_is_kept_or_copied() -> None:
    model = built(students=STUDENTS)
    assert {key.split(".")[1] for key in model.state_dict()} == set(STUDENTS)
    assert {key.split(".")[2] for key in model.state_dict()} == {"student", "objectives"}
    average = copy.deepcopy(model)
    assert average.teacher is model.teacher
    assert all(each.teacher is model.teacher for each in average.distillers.values())
    assert average.students["tiny"].data_preprocessor is average.data_preprocessor
    assert average.data_preprocessor is not model.data_preprocessor
    assert average.students["tiny"].student is not model.students["tiny"].student
    fresh = built(students=STUDENTS)
    trained(model, 1)
    fresh.load_state_dict(model.state_dict())
    images = batch()["inputs"]
    assert torch.equal(fresh.eval()(images)["small"].cls, model.eval()(images)["small"].cls)


def test_agreement_of_each() -> None:
    model = built(students=STUDENTS).eval()
    images = batch()["inputs"]
    samples = model(
        images, data_samples=data_samples(*({"img_path": str(number)} for number in range(4))), mode="predict"
    )
    metric = TeacherAgreement(patches_per_image=8)
    metric.process({}, samples)
    found = metric.evaluate(4)
    assert set(found) == {
        f"centered_cosine/{name}" for name in ("tiny.cls", "tiny.patch", "small.cls", "small.patch")
    } | {"centered_cosine/narrow.cls"}
    for name, distiller in model.distillers.items():
        alone = TeacherAgreement(patches_per_image=8)
        alone.process({}, distiller(images, data_samples=data_samples(*({} for _ in range(4))), mode="predict"))
        for key, value in alone.evaluate(4).items():
            assert found[key.replace("/", f"/{name}.")] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("students", "words"),
    [
        ({}, r"model\.students is empty"),
        ({"tiny": None}, r"model\.students is empty"),
        ({"keys": STUDENTS["tiny"]}, r"model\.students\.keys: not a valid name for a student"),
        ({"a.b": STUDENTS["tiny"]}, r"model\.students\.a\.b: not a valid name for a student"),
        ({"tiny_ema": STUDENTS["tiny"]}, r"model\.students\.tiny_ema: not a valid name for a student"),
        ({"tiny_plain": STUDENTS["tiny"]}, r"model\.students\.tiny_plain: not a valid name for a student"),
        ({"plain": STUDENTS["tiny"]}, r"model\.students\.plain: not a valid name for a student"),
        ({"heads": STUDENTS["tiny"]}, r"model\.students\.heads: not a valid name for a student"),
        ({"ema": STUDENTS["tiny"]}, r"model\.students\.ema: not a valid name for a student"),
        ({"tiny": dict(student=student())}, r"model\.students\.tiny has no 'objectives'"),
        ({"tiny": {**STUDENTS["tiny"], "objectifs": {}}}, r"tiny has an unknown key 'objectifs': it takes student, "),
        ({"tiny": {**STUDENTS["tiny"], "micro_batches": 2}}, r"model\.students\.tiny has an unknown key"),
        ({"tiny": dict(student=student(), objectives={})}, r"model\.students\.tiny\.objectives is empty"),
        (
            {"tiny": dict(student=student(mask_token=False), objectives=ALL)},
            r"set model\.students\.tiny\.student\.mask_token=True",
        ),
        (
            {**STUDENTS, "large": dict(student=student(img_size=84), objectives=dict(token=ALL["token"]))},
            r"different sizes \(.*small: 56 px.*large: 84 px\), and all see the same images: write one img_size",
        ),
        (
            {**STUDENTS, "fine": {**STUDENTS["tiny"], "grids": dict(match="nearest")}},
            r"model\.students\.fine\.grids\.match='nearest': choose from: 'auto', 'teacher_size', ",
        ),
    ],
)
def test_bad_input(students: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        built(students=students)


def test_a_student_with_cuda_graphs_is_not_trained_in_parts() -> None:
    graphs = {**STUDENTS["tiny"], "compile_student": dict(mode="reduce-overhead")}
    words = r"model\.students\.tiny\.compile_student\.mode='reduce-overhead' .*micro_batches=2 would overwrite"
    with pytest.raises(ValueError, match=words):
        built(students={"tiny": graphs}, micro_batches=2)


def test_missing_weights_are_reported_by_their_key() -> None:
    students = {"tiny": dict(student=student(checkpoint="nowhere.pth"), objectives=ALL)}
    with pytest.raises(CheckpointError, match=r"^model\.students\.tiny\.student\.checkpoint: .*nowhere\.pth"):
        built(students=students)
    with pytest.raises(CheckpointError, match=r"^model\.teacher\.backbone\.checkpoint: .*nowhere\.pth"):
        built(students=STUDENTS, teacher=dict(type="Teacher", backbone=dict(**SIZE, checkpoint="nowhere.pth")))
