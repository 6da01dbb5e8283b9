import dataclasses
import math

import pytest
import torch

from proteus.models import LabelObjective, LogitsObjective, Objective, StepFeatures

HARD = dict(type="HardLogitsLoss")


@pytest.fixture
def scored(step: StepFeatures) -> StepFeatures:
    """The small step, with a teacher that chooses classes 2 and 0 of three, and labels 1 and 0."""
    logits = torch.tensor([[0.0, 0.0, 4.0], [1.0, 0.0, 0.0]])
    return dataclasses.replace(step, teacher_logits=logits, labels=torch.tensor([1, 0]))


def with_scores(objective: Objective) -> Objective:
    """Of the cls tokens (1, 3) and (5, 1) make the scores (0, 0, log 2) and (0, 0, 0)."""
    objective.head.weight.data = torch.tensor([[0.0, 0.0], [0.0, 0.0], [-math.log(2) / 14, 5 * math.log(2) / 14]])
    return objective


def test_hard_logits_on_the_cls_token(scored: StepFeatures) -> None:
    objective = with_scores(LogitsObjective(2, 2, num_classes=3, loss=HARD))
    # Probabilities (1/4, 1/4, 1/2) for class 2, and a third each for class 0.
    assert objective(scored, {}).item() == pytest.approx((math.log(2) + math.log(3)) / 2, rel=1e-5)
    assert objective.predict(scored.student)["logits"].shape == (2, 3)
    assert (objective.needs_logits, objective.needs_labels, objective.needs_masks) == (True, False, False)


def test_teacher_and_labels_are_mixed_by_alpha(scored: StepFeatures) -> None:
    objective = with_scores(LogitsObjective(2, 2, num_classes=3, loss=HARD, alpha=0.25))
    labels = (math.log(4) + math.log(3)) / 2
    expected = 0.25 * (math.log(2) + math.log(3)) / 2 + 0.75 * labels
    assert objective.needs_labels
    assert objective(scored, {}).item() == pytest.approx(expected, rel=1e-5)
    alone = with_scores(LabelObjective(2, 0, num_classes=3))
    assert alone(scored, {}).item() == pytest.approx(labels, rel=1e-5)
    assert (alone.needs_teacher, alone.needs_logits, alone.needs_labels) == (False, False, True)


def test_the_classifier_starts_as_deits() -> None:
    head = LogitsObjective(student_dim=400, teacher_dim=7).head
    assert head.weight.shape == (1000, 400)
    assert head.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert head.bias.abs().max() == 0


def test_what_is_missing_is_named(step: StepFeatures, scored: StepFeatures) -> None:
    with pytest.raises(ValueError, match=r"set model\.teacher\.classifier"):
        LogitsObjective(2, 2, num_classes=3)(step, {})
    for objective in (LabelObjective(2, 2, num_classes=3), LogitsObjective(2, 2, num_classes=3, alpha=0.5)):
        with pytest.raises(ValueError, match="type='LabelledFolder'"):
            objective(dataclasses.replace(scored, labels=None), {})


@pytest.mark.parametrize(
    ("options", "words"),
    [({"alpha": 0.0}, "type='LabelObjective'"), ({"alpha": 1.5}, "at most 1"), ({"label_loss": HARD}, "alpha=0.5")],
)
def test_alpha_and_label_loss_that_do_not_mix(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LogitsObjective(2, 2, **options)
