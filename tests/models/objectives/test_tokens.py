from collections.abc import Callable

import pytest
import torch
from torch import nn

from proteus.models import FeatureObjective, Objective, StepFeatures, TokenObjective

AtIdentity = Callable[[Objective], Objective]


def test_token_term_by_hand(step: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(TokenObjective(student_dim=2, teacher_dim=2))
    # (-1, 1) against (0, 0): 1, 1. (1, -1) against (1, 1): 0, 4.
    assert objective(step, {}).item() == pytest.approx(6 / 4, rel=1e-4)


def test_token_objective_predicts_only_the_cls_token(step: StepFeatures, at_identity: AtIdentity) -> None:
    predicted = at_identity(TokenObjective(student_dim=2, teacher_dim=2)).predict(step.student)
    assert set(predicted) == {"cls"}
    torch.testing.assert_close(predicted["cls"], torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), atol=1e-4, rtol=0)


def test_cls_part_of_the_feature_term_is_the_named_term(step: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(FeatureObjective(student_dim=2, teacher_dim=2, cls_term="token"))
    # Patches, image 0: (-1, 1) against (-1, 1): 0, 0; (1, -1) against (0, 0): 1, 1.
    # Image 1: (1, -1) against (1, 3): 0, 16; (-1, 1) against (0, 0): 1, 1. Their mean is 20 / 8.
    # A mean over three tokens, of which two are patches:
    assert objective(step, {"token": torch.tensor(1.5)}).item() == pytest.approx((1.5 + 2 * 20 / 8) / 3, rel=1e-4)
    assert objective(step, {"token": torch.tensor(100.0)}).item() == pytest.approx(105 / 3, rel=1e-4)
    assert sum(isinstance(module, nn.Linear) for module in objective.modules()) == 1
    assert set(objective.predict(step.student)) == {"patches"}


def test_feature_objective_without_cls_term_has_a_second_head(step: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(FeatureObjective(student_dim=2, teacher_dim=2))
    # The cls tokens give 6 (see test_token_term_by_hand), the patches 20, over 2 images x 3 tokens x 2 channels.
    assert objective(step, {}).item() == pytest.approx(26 / 12, rel=1e-4)
    assert sum(isinstance(module, nn.Linear) for module in objective.modules()) == 2
    predicted = objective.predict(step.student)
    assert {kind: tuple(tokens.shape) for kind, tokens in predicted.items()} == {"cls": (2, 2), "patches": (2, 2, 2)}
