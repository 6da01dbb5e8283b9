from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from several_teachers import FIRST, OBJECTIVES, SECOND, STUDENT, batch, fill

from proteus.models import MultiTeacherDistiller
from proteus.models.distillers.image_dropping import ImageDropping

CLEAN = {name: OBJECTIVES[name] for name in ("token", "feature")}


def teachers(objectives: dict[str, Any] = OBJECTIVES, **second: Any) -> dict[str, Any]:
    first = dict(teacher=FIRST, objectives=objectives)
    return dict(first=first, second=dict(teacher=SECOND, objectives=objectives, weight=0.5, **second))


def built(configs: dict[str, Any] | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return fill(MultiTeacherDistiller(copy.deepcopy(configs or teachers()), copy.deepcopy(STUDENT), **options))


def test_images_by_hand() -> None:
    losses = {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([1.0, 2.0, 2.5])}
    positions, factors = ImageDropping(1.0).draw(losses)  # the largest loss alone
    assert {name: each.tolist() for name, each in positions.items()} == {"a": [0], "b": [1, 2]}
    # 2 teachers times the mean over 3 pairs: 2/3 (a0 + b1 + b2) = 2/3 * mean(a0) + 4/3 * mean(b1, b2).
    assert factors == pytest.approx({"a": 2 / 3, "b": 4 / 3})
    positions, factors = ImageDropping(0.0).draw(losses)
    assert {name: each.tolist() for name, each in positions.items()} == {"a": [0, 1, 2], "b": [0, 1, 2]}
    assert factors == {"a": 1, "b": 1}
    positions, factors = ImageDropping(1.0).draw({"a": torch.ones(2), "b": torch.zeros(2)})
    assert {name: each.tolist() for name, each in positions.items()} == {"a": [0, 1], "b": [0]}
    assert factors == {"a": 2, "b": 0}


def test_others_are_left_out_with_the_probability() -> None:
    torch.manual_seed(0)
    losses = {"a": torch.ones(10_000), "b": torch.zeros(10_000), "c": torch.zeros(10_000)}
    positions, factors = ImageDropping(0.3).draw(losses)
    assert len(positions["a"]) == 10_000
    for name in "bc":
        assert len(positions[name]) / 10_000 == pytest.approx(0.7, abs=0.02)
    assert sum(factors.values()) == pytest.approx(3)
    both = set(positions["b"].tolist()) & set(positions["c"].tolist())
    assert len(both) / 10_000 == pytest.approx(0.49, abs=0.02)  # independent of each other
    torch.manual_seed(0)
    again, _ = ImageDropping(0.3).draw(losses)
    assert torch.equal(again["b"], positions["b"])


def test_losses_and_gradients_are_those_of_the_kept_pairs() -> None:
    model, reference = built(image_drop=1.0), built()
    data = model.data_preprocessor(batch(0), True)
    data["masks"], data["mask_indices"] = data["masks"][:8], None

    # 1. The loss of each image, by hand, and a weight with which each teacher has the larger one of half of them.
    clean, of_image = reference.student(data["inputs"]), {}
    for name, pair in reference.distillers.items():
        target = pair.teacher(data["inputs"])
        cls = F.mse_loss(pair.objectives["token"].head(clean.cls), target.cls, reduction="none").mean(1)
        patches = F.mse_loss(pair.objectives["feature"].head(clean.patches), target.patches, reduction="none")
        of_image[name] = cls + patches.mean((1, 2))
    ratio = of_image["first"] / of_image["second"]
    model.weights["second"] = reference.weights["second"] = ratio.median().item() * 1.0001
    first = ratio > reference.weights["second"]
    assert 4 < int(first.sum()) < 12
    found = model(**data, mode="loss")
    sum(found.values()).backward()

    # 2. The losses of two runs, each on the images of one teacher alone.
    expected = {}
    for name, kept in (("first", first), ("second", ~first)):
        own = kept.nonzero().squeeze(1)
        terms = reference.teachers[name].losses(data["inputs"][own], data["masks"][own[own < 8]])
        factor = 2 * len(own) / 16 * reference.weights[name]
        expected |= {f"{name}/{key}": factor * value for key, value in terms.items()}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    sum(expected.values()).backward()
    for (key, value), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value.grad, other.grad, rtol=1e-4, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")


def test_without_probability_nothing_changes() -> None:
    model, reference = built(image_drop=0.0), built()
    for each in (model, reference):
        torch.manual_seed(1)
        data = each.data_preprocessor(batch(0), True)
    assert model.image_dropping is None
    assert model(**data, mode="loss") == reference(**data, mode="loss")


def test_a_teacher_without_images_has_no_gradient_and_evaluation_uses_all() -> None:
    weak = teachers()
    weak["second"]["weight"] = 1e-9
    masked = dict(OBJECTIVES, patch=dict(type="PatchObjective", tokens="all"))
    weak["first"]["objectives"] = masked
    model = built(weak, image_drop=1.0)
    data = model.data_preprocessor(batch(0), True)
    losses = model(**data, mode="loss")
    sum(losses.values()).backward()
    for name, each in model.distillers.items():
        gradients = [parameter.grad for parameter in each.objectives.parameters()]
        assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
        assert any(bool(gradient.any()) for gradient in gradients) == (name == "first")
    weak["first"]["weight"], weak["second"]["weight"] = 1e-9, 1.0  # no masked image is left to the first
    losses = built(weak, image_drop=1.0)(**data, mode="loss")
    assert all(bool(value.isfinite()) for value in losses.values())
    model.eval()
    assert model(**data, mode="loss") == model.eval()(**data, mode="loss")


def test_what_is_refused() -> None:
    relation = dict(CLEAN, relation=dict(type="TokenRelationObjective", queue_size=8))
    running = dict(type="PHIStandardization", images=0)
    scaled = dict(token=dict(type="TokenObjective", loss=dict(type="StandardizedMSELoss")))
    for configs, words in (
        (teachers(relation), r"model\.teachers\.first\.objectives\.relation compares images with each other"),
        (teachers(standardization=running), r"model\.teachers\.second\.standardization has images=0"),
        (teachers(scaled), r"the statistics of model\.teachers\.first\.objectives\.token\.loss would be"),
        (teachers(dict(patch=dict(type="PatchRelationObjective"))), r"map no tokens of clean images"),
    ):
        with pytest.raises(ValueError, match=rf"model\.image_drop=0\.5: .*{words}"):
            built(configs, image_drop=0.5)
    shifted = dict(type="ShiftDataPreprocessor", shift=1)
    with pytest.raises(ValueError, match="ShiftDataPreprocessor shifts the views of images"):
        built(image_drop=0.5, data_preprocessor=shifted)
    with pytest.raises(ValueError, match=r"model\.image_drop=2: write a number from 0 to 1"):
        built(image_drop=2)
