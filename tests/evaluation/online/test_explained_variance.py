from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from proteus.evaluation.online.explained_variance import UnexplainedVariance
from proteus.models import Objective, StepFeatures
from proteus.models.objectives import FeatureObjective, LabelObjective, PatchObjective, TokenObjective
from proteus.structures import Features


@pytest.fixture
def features() -> StepFeatures:
    """Features of twelve images of nine patches, every second of them masked."""
    torch.manual_seed(0)

    def random_features(dim: int) -> Features:
        return Features(torch.randn(12, dim) + 3, 2 * torch.randn(12, 9, dim) - 1, (3, 3))

    return StepFeatures(random_features(6), random_features(4), random_features(4), torch.arange(0, 12 * 9, 2))


def halves(features: StepFeatures) -> list[StepFeatures]:
    """Split into a batch of five and one of seven; patch 45 is the sixth image's first."""
    masked = features.mask_indices
    assert masked is not None
    assert features.masked is not None
    return [
        StepFeatures(
            features.teacher[part],
            features.student[part],
            features.masked[part],
            masked[(masked >= low) & (masked < high)] - low,
        )
        for part, low, high in ((slice(0, 5), 0, 45), (slice(5, 12), 45, 108))
    ]


def variance(target: Tensor) -> float:
    """Variance per element of tokens ``(n, D)``."""
    return (target - target.mean(0)).square().mean().item()


def test_each_term_is_divided_by_that_of_the_best_constant(features: StepFeatures) -> None:
    objectives: dict[str, Objective] = {
        "token": TokenObjective(4, 6),
        "feature": FeatureObjective(4, 6, cls_term="token"),
        "own": FeatureObjective(4, 6),
        "patch": PatchObjective(4, 6, weight=7.0),
    }
    terms: dict[str, Tensor] = {}
    for name, objective in objectives.items():
        terms[name] = objective(features, terms)
    cls, patches = variance(features.teacher.cls), variance(features.teacher.patches.flatten(0, 1))
    masked = variance(features.teacher.patches.flatten(0, 1)[features.mask_indices])
    joint = (cls + 9 * patches) / 10
    wanted = {"token": cls, "feature": joint, "own": joint, "patch": masked}

    unexplained = UnexplainedVariance(objectives)
    for batch in halves(features):
        unexplained.update(batch)
    assert unexplained.unsupported == {}
    found = unexplained.compute()
    assert list(found) == list(objectives)
    for name, constant in wanted.items():
        assert found[name] == pytest.approx(terms[name].item() / constant, rel=1e-5), name


def test_the_mean_target_scores_one_and_the_target_zero(features: StepFeatures) -> None:
    objective = TokenObjective(6, 6)
    perfect = StepFeatures(features.teacher, features.teacher)
    objective.head = torch.nn.Identity()
    unexplained = UnexplainedVariance({"token": objective})
    unexplained.update(perfect)
    assert unexplained.compute() == {"token": 0.0}

    mean = features.teacher.cls.mean(0).expand(12, 6)
    unexplained = UnexplainedVariance({"token": objective})
    unexplained.update(StepFeatures(features.teacher, Features(mean, features.teacher.patches, (3, 3))))
    assert unexplained.compute()["token"] == pytest.approx(1)


def test_other_losses_are_unsupported(features: StepFeatures) -> None:
    unexplained = UnexplainedVariance(
        {
            "token": TokenObjective(4, 6, loss={"type": "CosineLoss"}),
            "feature": FeatureObjective(4, 6, cls_term="token"),
            "labels": LabelObjective(4, 6, num_classes=3),
            "patch": PatchObjective(4, 6),
        }
    )
    unexplained.update(features)
    assert list(unexplained.compute()) == ["patch"]
    assert unexplained.unsupported["token"] == unexplained.unsupported["feature"] == "not defined for CosineLoss"
    assert unexplained.unsupported["labels"] == "not defined for CrossEntropyLoss"


class MeanPatchObjective(Objective):
    """A user's own objective."""

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        return self.compare(self.head, step.student.patches.mean(1), step.teacher.patches.mean(1))


class ExplainedMeanPatchObjective(MeanPatchObjective):
    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]]:
        return [(self.head(step.student.patches.mean(1)), step.teacher.patches.mean(1))]


def test_a_users_objective_implements_compared_tokens(features: StepFeatures) -> None:
    without = UnexplainedVariance({"mine": MeanPatchObjective(4, 6)})
    assert without.unsupported["mine"] == "MeanPatchObjective does not implement compared_tokens"
    without.update(features)
    assert without.compute() == {}

    objective = ExplainedMeanPatchObjective(4, 6)
    unexplained = UnexplainedVariance({"mine": objective})
    unexplained.update(features)
    target = features.teacher.patches.mean(1)
    error = (objective.head(features.student.patches.mean(1)) - target).square().mean().item()
    assert unexplained.compute()["mine"] == pytest.approx(error / variance(target), rel=1e-5)


def test_constant_targets_give_nan() -> None:
    same = Features(torch.full((4, 6), 0.1), torch.zeros(4, 1, 6), (1, 1))
    unexplained = UnexplainedVariance({"token": TokenObjective(6, 6)})
    unexplained.update(StepFeatures(same, same))
    assert str(unexplained.compute()["token"]) == "nan"
