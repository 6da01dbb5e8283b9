"""The three losses, compared with values and gradients computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from projects.dime_fm.losses import (
    DistancePreservingLoss,
    Embeddings,
    PseudoPairLoss,
    ScoreDistillationLoss,
    UnpairedLoss,
)

AXES = torch.eye(2)
SAME = torch.full((2, 2), 0.5**0.5)
SCALE = torch.tensor(math.log(3))
# Scores of ln 3 and 0 make the distribution (3/4, 1/4); equal ones (1/2, 1/2).
SHARP_TO_FLAT = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
FLAT_TO_SHARP = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)


def random(images: int, texts: int, width: int, seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: F.normalize(torch.randn(count, width, generator=generator), dim=-1)  # noqa: E731
    return Embeddings(draw(images), draw(texts), torch.tensor(10.0))


def test_score_distillation_by_hand() -> None:
    images = SAME.clone().requires_grad_()
    value = ScoreDistillationLoss()(Embeddings(images, AXES, SCALE), Embeddings(AXES, AXES, SCALE))
    value.backward()
    assert value.item() == pytest.approx(2 * SHARP_TO_FLAT, rel=1e-5)
    # On the diagonal, each score's gradient is (1/2 - 3/4) / 2 for its row and the same for its column; off the
    # diagonal it is the negative. A sentence is an axis.
    wanted = math.log(3) * torch.tensor([[-0.25, 0.25], [0.25, -0.25]])
    torch.testing.assert_close(images.grad, wanted)


def test_images_and_sentences_are_averaged_separately() -> None:
    student, teacher = random(3, 5, 4, seed=0), random(3, 5, 6, seed=1)
    p, q = (of.scale * of.images @ of.texts.T / 2 for of in (teacher, student))
    rows = sum((p[i].softmax(0) * (p[i].log_softmax(0) - q[i].log_softmax(0))).sum() for i in range(3)) / 3
    columns = sum((p[:, j].softmax(0) * (p[:, j].log_softmax(0) - q[:, j].log_softmax(0))).sum() for j in range(5)) / 5
    torch.testing.assert_close(ScoreDistillationLoss(temperature=2.0)(student, teacher), rows + columns)


def test_temperature_by_hand() -> None:
    sharp = 3**0.5 / (1 + 3**0.5)
    wanted = 2 * (sharp * math.log(2 * sharp) + (1 - sharp) * math.log(2 * (1 - sharp)))
    loss = ScoreDistillationLoss(temperature=2.0)
    assert loss(Embeddings(SAME, AXES, SCALE), Embeddings(AXES, AXES, SCALE)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("modality", ["images", "texts"])
def test_pseudo_pairs_by_hand(modality: str) -> None:
    ours, other = SAME.clone().requires_grad_(), torch.full((2, 2), math.nan)
    student = Embeddings(ours, other, SCALE) if modality == "images" else Embeddings(other, ours, SCALE)
    teacher = Embeddings(AXES, other, SCALE) if modality == "images" else Embeddings(other, AXES, SCALE)
    value = PseudoPairLoss(modality=modality)(student, teacher)  # type: ignore[arg-type]
    value.backward()
    assert value.item() == pytest.approx(2 * SHARP_TO_FLAT, rel=1e-5)
    torch.testing.assert_close(ours.grad, math.log(3) * torch.tensor([[-0.25, 0.25], [0.25, -0.25]]))


@pytest.mark.parametrize("modality", ["images", "texts"])
def test_distances_by_hand(modality: str) -> None:
    ours, other = AXES.clone().requires_grad_(), torch.full((2, 2), math.nan)
    student = Embeddings(ours, other, SCALE) if modality == "images" else Embeddings(other, ours, SCALE)
    teacher = Embeddings(SAME, other, SCALE) if modality == "images" else Embeddings(other, SAME, SCALE)
    value = DistancePreservingLoss(modality=modality)(student, teacher)  # type: ignore[arg-type]
    value.backward()
    assert value.item() == pytest.approx(2 * FLAT_TO_SHARP, rel=1e-5)
    # Each image is both a row and a column of the scores.
    torch.testing.assert_close(ours.grad, math.log(3) * torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))


def test_distances_ignore_rotation_and_width() -> None:
    teacher = random(4, 3, 5, seed=0)
    turn = torch.linalg.qr(torch.randn(7, 5, generator=torch.Generator().manual_seed(1))).Q
    student = Embeddings(teacher.images @ turn.T, teacher.texts @ turn.T, teacher.scale)
    assert DistancePreservingLoss()(student, teacher).item() == pytest.approx(0, abs=1e-6)
    assert ScoreDistillationLoss()(student, teacher).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        ScoreDistillationLoss(),
        *(kind(modality=m) for kind in (PseudoPairLoss, DistancePreservingLoss) for m in ("images", "texts")),
    ],  # type: ignore[arg-type]
    ids=lambda loss: f"{type(loss).__name__}-{getattr(loss, 'modality', '')}",
)
def test_losses_ignore_the_order(loss: UnpairedLoss) -> None:
    """Images and sentences can be shuffled independently."""
    student, teacher = random(6, 6, 4, seed=0), random(6, 6, 4, seed=1)
    value = loss(student, teacher)
    generator = torch.Generator().manual_seed(2)
    images, texts = torch.randperm(6, generator=generator), torch.randperm(6, generator=generator)
    shuffled = [Embeddings(of.images[images], of.texts[texts], of.scale) for of in (student, teacher)]
    assert value > 0.01
    torch.testing.assert_close(loss(*shuffled), value)
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_bad_values_are_reported() -> None:
    with pytest.raises(ValueError, match="temperature=0"):
        ScoreDistillationLoss(temperature=0)
    with pytest.raises(ValueError, match="modality='text': write 'images' or 'texts'"):
        PseudoPairLoss(modality="text")  # type: ignore[arg-type]
