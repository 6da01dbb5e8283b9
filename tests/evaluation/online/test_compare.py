from __future__ import annotations

import math

import pytest
import torch
from data_samples import data_samples

from proteus.evaluation.metrics import TeacherAgreement
from proteus.evaluation.online.compare import compare_with_teacher, left_out, nearest_neighbour_accuracy
from proteus.evaluation.online.effective_rank import effective_rank
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
def test_the_figures_are_those_of_the_whole_set(images: ProbeImages) -> None:
    model = build(ALL)
    batch = model.data_preprocessor({"inputs": images.images(torch.arange(10))}, False)
    found = compare_with_teacher(model, images, batch_size=4, patches_per_image=16)

    metric = TeacherAgreement()
    metric.process(None, model(**batch, data_samples=data_samples(*({} for _ in range(10))), mode="predict"))
    agreement = metric.evaluate(10)
    assert found["centered_cosine_cls"] == pytest.approx(
        agreement["centered_cosine/cls"], abs=1e-3
    )  # kept there in float16
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
    assert left_out(model, found) == [
        "k-NN (no labelled images; set default_hooks.online_eval.knn.data_root to a folder with a folder per class)"
    ]


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 10, 16])
def test_batches_change_nothing(images: ProbeImages, batch_size: int) -> None:
    model = build(ALL)
    whole = compare_with_teacher(model, images, 10, 4)
    assert compare_with_teacher(model, images, batch_size, 4) == pytest.approx(whole, rel=1e-4)


@torch.no_grad()
def test_what_a_model_does_not_have_is_left_out(images: ProbeImages) -> None:
    labels = {"labels": {"type": "LabelObjective", "num_classes": 3}}
    alone = build(labels, {"type": "NoTeacher"})
    found = compare_with_teacher(alone, images, 4)
    assert set(found) == {"effective_rank_cls_student", "effective_rank_patch_student"}
    assert "there is no teacher" in left_out(alone, found)[-1]

    unheard = build(labels)
    found = compare_with_teacher(unheard, images, 4)
    assert {name.rpartition("_")[2] for name in found} == {"student", "teacher"}
    assert any(line.startswith("the relative loss of labels: CrossEntropyLoss") for line in left_out(unheard, found))
    assert any(line.startswith("centered_cosine_patch: no objective") for line in left_out(unheard, found))


@torch.no_grad()
def test_nearest_neighbours(images: ProbeImages) -> None:
    model = build(ALL)
    found = nearest_neighbour_accuracy(model, model.student, images, (1, 3), 4)
    pixels = model.data_preprocessor({"inputs": images.images(torch.arange(10))}, False)["inputs"]
    cls = torch.nn.functional.normalize(model.student(pixels).cls.double(), dim=1)
    similarity = (cls @ cls.t()).fill_diagonal_(-2)
    assert found["knn_1"] == pytest.approx(100 * (images.labels[similarity.argmax(1)] == images.labels).double().mean())
    votes = torch.zeros(10, 3, dtype=torch.float64)
    values, nearest = similarity.topk(3, dim=1)
    votes.scatter_add_(1, images.labels[nearest], (values / 0.07).exp())
    assert found["knn_3"] == pytest.approx(100 * (votes.argmax(1) == images.labels).double().mean())


@torch.no_grad()
def test_a_diverged_student_gives_no_number_and_no_error(images: ProbeImages) -> None:
    model = build(ALL)
    for parameter in model.student.parameters():
        parameter.fill_(math.nan)
    found = compare_with_teacher(model, images, 4)
    assert math.isnan(found["centered_cosine_cls"])
    assert math.isnan(found["effective_rank_cls_student"])
    assert found["effective_rank_cls_teacher"] > 1
    assert math.isnan(nearest_neighbour_accuracy(model, model.student, images, (1,), 4)["knn_1"])
