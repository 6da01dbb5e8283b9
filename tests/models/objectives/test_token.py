from collections.abc import Callable

import pytest
import torch

from proteus.models import Objective, StepFeatures, TokenObjective

AtIdentity = Callable[[Objective], Objective]


def test_the_term_is_worked_out_by_hand(views: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(TokenObjective(student_dim=2, teacher_dim=2))
    # (-1, 1) against (0, 0): 1, 1. (1, -1) against (1, 1): 0, 4.
    assert objective(views, {}).item() == pytest.approx(6 / 4, rel=1e-4)


def test_it_predicts_the_cls_token_alone(views: StepFeatures, at_identity: AtIdentity) -> None:
    predicted = at_identity(TokenObjective(student_dim=2, teacher_dim=2)).predict(views.student)
    assert set(predicted) == {"cls"}
    torch.testing.assert_close(predicted["cls"], torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), atol=1e-4, rtol=0)
