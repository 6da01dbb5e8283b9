from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from data_samples import data_samples
from torch import nn

from proteus.evaluation.metrics import TeacherAgreement
from proteus.evaluation.online.compare import (
    compare_with_teacher,
    effective_rank,
    eval_mode,
    knn_accuracy,
    missing_metrics,
)
from proteus.evaluation.online.probe_images import ProbeImages
from proteus.models import Distiller

SIZE = {"type": "ViT", "arch": "tiny", "img_size": 56, "patch_size": 14, "depth": 2, "interpolate_offset": 0.0}


def build(objectives: dict, teacher: dict | None = None) -> Distiller:
    torch.manual_seed(0)
    teacher = teacher or {"type": "Teacher", "backbone": {**SIZE, "embed_dim": 32, "num_heads": 4}}
    student = {**SIZE, "embed_dim": 24, "num_heads": 3, "mask_token": True}
    return Distiller(teacher, student, objectives).eval()


ALL = {
    "token": {"type": "TokenObjective"},
    "feature": {"type": "FeatureObjective", "cls_term": "token"},
    "patch": {"type": "PatchObjective"},
}


@pytest.fixture
def images() -> ProbeImages:
    torch.manual_seed(1)
    masks = torch.rand(10, 16).argsort(dim=1) < 8
    return ProbeImages(torch.randint(0, 256, (10, 3, 56, 56), dtype=torch.uint8), [], torch.arange(10) % 3, masks)


@torch.no_grad()
def test_metrics_of_batches_equal_those_of_all_images(images: ProbeImages) -> None:
    model = build(ALL)
    batch = model.data_preprocessor({"inputs": images.images(torch.arange(10))}, False)
    found = compare_with_teacher(model, images, batch_size=4, patches_per_image=16)

    metric = TeacherAgreement()
    metric.process(None, model(**batch, data_samples=data_samples(*({} for _ in range(10))), mode="predict"))
    agreement = metric.evaluate(10)
    assert found["centered_cosine_cls"] == pytest.approx(agreement["centered_cosine/cls"], abs=1e-3)  # float16 there
    assert found["centered_cosine_patch"] == pytest.approx(agreement["centered_cosine/patch"], abs=1e-3)

    student, teacher = model.student(batch["inputs"]), model.teacher(batch["inputs"])
    for name, features in (("student", student), ("teacher", teacher)):
        assert found[f"effective_rank_cls_{name}"] == pytest.approx(effective_rank(features.cls), rel=1e-3)
        rank = effective_rank(features.patches.flatten(0, 1))
        assert found[f"effective_rank_patch_{name}"] == pytest.approx(rank, rel=1e-3)

    indices = images.masks.flatten().nonzero().squeeze(1)
    terms = model(**batch, masks=images.masks, mask_indices=indices, mode="loss")
    targets = {"token": teacher.cls, "patch": teacher.patches.flatten(0, 1)[indices]}
    for name, target in targets.items():
        constant = (target - target.mean(0)).square().mean()
        assert found[f"unexplained_variance_{name}"] == pytest.approx(
            (terms[f"loss_{name}"] / constant).item(), rel=1e-4
        )
    assert missing_metrics(model, found) == [
        "k-NN (no labelled images; set default_hooks.online_eval.knn.data_root to a folder with a folder per class)"
    ]
    assert missing_metrics(model, found, knn=False) == []


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 10, 16])
def test_batch_size_does_not_change_the_metrics(images: ProbeImages, batch_size: int) -> None:
    model = build(ALL)
    expected = compare_with_teacher(model, images, 10, 4)
    assert compare_with_teacher(model, images, batch_size, 4) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_missing_metrics_are_listed_with_reasons(images: ProbeImages) -> None:
    labels = {"labels": {"type": "LabelObjective", "num_classes": 3}}
    without_teacher = build(labels, {"type": "NoTeacher"})
    found = compare_with_teacher(without_teacher, images, 4)
    assert set(found) == {"effective_rank_cls_student", "effective_rank_patch_student"}
    assert "the model lacks a teacher" in missing_metrics(without_teacher, found)[-1]

    labels_only = build(labels)
    found = compare_with_teacher(labels_only, images, 4)
    assert {name.rpartition("_")[2] for name in found} == {"student", "teacher"}
    assert any(
        line.startswith("unexplained_variance_labels (not defined for CrossEntropyLoss")
        for line in missing_metrics(labels_only, found)
    )
    assert any(line.startswith("centered_cosine_patch (no objective") for line in missing_metrics(labels_only, found))


@torch.no_grad()
def test_knn_by_hand(images: ProbeImages) -> None:
    model = build(ALL)
    found = knn_accuracy(model, model.student, images, (1, 3), 4)
    pixels = model.data_preprocessor({"inputs": images.images(torch.arange(10))}, False)["inputs"]
    cls = torch.nn.functional.normalize(model.student(pixels).cls.double(), dim=1)
    similarity = (cls @ cls.t()).fill_diagonal_(-2)
    assert found["knn_1"] == pytest.approx(100 * (images.labels[similarity.argmax(1)] == images.labels).double().mean())
    votes = torch.zeros(10, 3, dtype=torch.float64)
    values, nearest = similarity.topk(3, dim=1)
    votes.scatter_add_(1, images.labels[nearest], (values / 0.07).exp())
    assert found["knn_3"] == pytest.approx(100 * (votes.argmax(1) == images.labels).double().mean())


@torch.no_grad()
def test_metrics_of_a_diverged_student_are_nan(images: ProbeImages) -> None:
    model = build(ALL)
    for parameter in model.student.parameters():
        parameter.fill_(math.nan)
    found = compare_with_teacher(model, images, 4)
    assert math.isnan(found["centered_cosine_cls"])
    assert math.isnan(found["effective_rank_cls_student"])
    assert found["effective_rank_cls_teacher"] > 1
    assert math.isnan(knn_accuracy(model, model.student, images, (1,), 4)["knn_1"])


def test_effective_rank_of_r_equal_directions_is_r() -> None:
    corners = torch.cat([torch.eye(5), -torch.eye(5)])  # centred, equally far in five directions
    assert effective_rank(corners) == pytest.approx(5)
    assert effective_rank(torch.cat([corners, torch.zeros(10, 3)], dim=1) + 7) == pytest.approx(5)


def test_effective_rank_by_hand() -> None:
    # Singular values 3 sqrt 2 and sqrt 2: fractions 3/4 and 1/4.
    features = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert effective_rank(features) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_effective_rank_equals_the_definition_with_an_svd(shape: tuple[int, int]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 3, shape[1]) + 5
    exact = features.double().numpy()
    values = np.linalg.svd(exact - exact.mean(0), compute_uv=False)
    values = values[values > 1e-9]
    fractions = values / values.sum()
    assert effective_rank(features) == pytest.approx(math.exp(-(fractions * np.log(fractions)).sum()), rel=1e-6)


def test_effective_rank_of_collapsed_features() -> None:
    line = torch.linspace(0, 1, 50)[:, None] * torch.randn(1, 64) + 3
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.randn(1, 64).expand(50, 64)) == 0


def test_effective_rank_of_nan_and_of_one_row() -> None:
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0, 1]])))
    with pytest.raises(ValueError, match=r"two or more features, .*\(1, 4\)"):
        effective_rank(torch.zeros(1, 4))


def states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_eval_mode_restores_modes_buffers_and_random_states() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(4)))
    model.train()
    model[3][0].eval()  # a module that is frozen in training
    before, buffers = states(), {name: value.clone() for name, value in model.state_dict().items()}
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.randn(8, 4)).requires_grad
        random.random(), np.random.rand(), torch.rand(3)
    assert states() == before
    assert [module.training for module in model.modules()] == [True, True, True, True, True, False]
    assert all(torch.equal(value, buffers[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_eval_mode_restores_them_after_an_error() -> None:
    model, before = nn.Dropout(), states()
    with pytest.raises(RuntimeError, match="negative"), eval_mode(model):
        torch.rand(3).repeat_interleave(torch.tensor([-1]))
    assert states() == before
    assert model.training


def test_random_numbers_in_eval_mode_repeat() -> None:
    drawn = []
    for _ in range(2):
        torch.rand(1)
        with eval_mode(nn.Identity()):
            drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
    assert drawn[0] == drawn[1]
