import pytest
import torch

from proteus.models import CosineLoss, MSELoss, SmoothL1Loss

PREDICTION = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
TARGET = torch.tensor([[0.0, 2.0], [6.0, 8.0]])


def test_mse_is_the_mean_over_elements() -> None:
    # Differences 1, -2, -3, -4: squares 1, 4, 9, 16.
    assert MSELoss()(PREDICTION, TARGET).item() == pytest.approx(30 / 4)


def test_smooth_l1_is_squared_below_beta_and_absolute_above() -> None:
    # beta 2: |d| = 1 -> 1 / 4; 2 -> 2 - 1; 3 -> 3 - 1; 4 -> 4 - 1.
    assert SmoothL1Loss(beta=2.0)(PREDICTION, TARGET).item() == pytest.approx((0.25 + 1 + 2 + 3) / 4)
    assert SmoothL1Loss()(PREDICTION, TARGET).item() == pytest.approx((0.5 + 1.5 + 2.5 + 3.5) / 4)


def test_cosine_is_a_mean_over_tokens_and_blind_to_norms() -> None:
    # (1, 0) against (0, 2): cosine 0; (3, 4) against (6, 8): cosine 1.
    assert CosineLoss()(PREDICTION, TARGET).item() == pytest.approx(0.5)
    assert CosineLoss()(PREDICTION, -TARGET).item() == pytest.approx(1.5)
    assert CosineLoss()(7 * PREDICTION, TARGET).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [MSELoss(), SmoothL1Loss(), CosineLoss()])
def test_two_groups_of_tokens_can_be_joined_by_their_sizes(loss: torch.nn.Module) -> None:
    # FeatureObjective relies on it.
    prediction, target = torch.randn(2, 7, 4), torch.randn(2, 7, 4)
    parts = (3 * loss(prediction[:, :3], target[:, :3]) + 4 * loss(prediction[:, 3:], target[:, 3:])) / 7
    torch.testing.assert_close(parts, loss(prediction, target))
