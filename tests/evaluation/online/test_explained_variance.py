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
def views() -> StepFeatures:
    """Twelve images of nine patches, of which every second is masked."""
    torch.manual_seed(0)

    def features(dim: int) -> Features:
        return Features(torch.randn(12, dim) + 3, 2 * torch.randn(12, 9, dim) - 1, (3, 3))

    return StepFeatures(features(6), features(4), features(4), torch.arange(0, 12 * 9, 2))


def halves(views: StepFeatures) -> list[StepFeatures]:
    """The same images as a batch of five and one of seven; patch 45 is the sixth image's first."""
    masked = views.mask_indices
    assert masked is not None
    assert views.masked is not None
    return [
        StepFeatures(
            views.teacher[part],
            views.student[part],
            views.masked[part],
            masked[(masked >= low) & (masked < high)] - low,
        )
        for part, low, high in ((slice(0, 5), 0, 45), (slice(5, 12), 45, 108))
    ]


def variance(target: Tensor) -> float:
    """Per element, of tokens ``(n, D)`` around their mean."""
    return (target - target.mean(0)).square().mean().item()


def test_each_term_over_that_of_the_best_constant(views: StepFeatures) -> None:
    objectives: dict[str, Objective] = {
        "token": TokenObjective(4, 6),
        "feature": FeatureObjective(4, 6, cls_term="token"),
        "own": FeatureObjective(4, 6),
        "patch": PatchObjective(4, 6, weight=7.0),
    }
    terms: dict[str, Tensor] = {}
    for name, objective in objectives.items():
        terms[name] = objective(views, terms)
    cls, patches = variance(views.teacher.cls), variance(views.teacher.patches.flatten(0, 1))
    masked = variance(views.teacher.patches.flatten(0, 1)[views.mask_indices])
    joint = (cls + 9 * patches) / 10
    wanted = {"token": cls, "feature": joint, "own": joint, "patch": masked}

    relative = UnexplainedVariance(objectives)
    for batch in halves(views):
        relative.update(batch)
    assert relative.left_out == {}
    found = relative.compute()
    assert list(found) == list(objectives)
    for name, constant in wanted.items():
        assert found[name] == pytest.approx(terms[name].item() / constant, rel=1e-5), name


def test_the_mean_target_scores_one_and_the_target_nothing(views: StepFeatures) -> None:
    objective = TokenObjective(6, 6)
    perfect = StepFeatures(views.teacher, views.teacher)
    objective.head = torch.nn.Identity()
    relative = UnexplainedVariance({"token": objective})
    relative.update(perfect)
    assert relative.compute() == {"token": 0.0}

    mean = views.teacher.cls.mean(0).expand(12, 6)
    relative = UnexplainedVariance({"token": objective})
    relative.update(StepFeatures(views.teacher, Features(mean, views.teacher.patches, (3, 3))))
    assert relative.compute()["token"] == pytest.approx(1)


def test_other_losses_are_left_out_by_name(views: StepFeatures) -> None:
    relative = UnexplainedVariance(
        {
            "token": TokenObjective(4, 6, loss={"type": "CosineLoss"}),
            "feature": FeatureObjective(4, 6, cls_term="token"),
            "labels": LabelObjective(4, 6, num_classes=3),
            "patch": PatchObjective(4, 6),
        }
    )
    relative.update(views)
    assert list(relative.compute()) == ["patch"]
    assert relative.left_out["token"] == relative.left_out["feature"] == "CosineLoss has no such figure"
    assert relative.left_out["labels"] == "CrossEntropyLoss has no such figure"


class MeanPatchObjective(Objective):
    """A user's own objective."""

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        return self.compare(self.head, step.student.patches.mean(1), step.teacher.patches.mean(1))


class ExplainedMeanPatchObjective(MeanPatchObjective):
    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]]:
        return [(self.head(step.student.patches.mean(1)), step.teacher.patches.mean(1))]


def test_own_objective_by_its_compared_tokens(views: StepFeatures) -> None:
    without = UnexplainedVariance({"mine": MeanPatchObjective(4, 6)})
    assert without.left_out["mine"] == "MeanPatchObjective does not implement compared_tokens"
    without.update(views)
    assert without.compute() == {}

    objective = ExplainedMeanPatchObjective(4, 6)
    relative = UnexplainedVariance({"mine": objective})
    relative.update(views)
    target = views.teacher.patches.mean(1)
    error = (objective.head(views.student.patches.mean(1)) - target).square().mean().item()
    assert relative.compute()["mine"] == pytest.approx(error / variance(target), rel=1e-5)


def test_targets_that_do_not_vary() -> None:
    same = Features(torch.full((4, 6), 0.1), torch.zeros(4, 1, 6), (1, 1))
    relative = UnexplainedVariance({"token": TokenObjective(6, 6)})
    relative.update(StepFeatures(same, same))
    assert str(relative.compute()["token"]) == "nan"
