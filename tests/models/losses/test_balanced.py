import pytest
import torch

from proteus.models import BalancedLoss, CosineLoss, SmoothL1Loss


def test_by_hand() -> None:
    # (1, 0) against (0, 2): cosine 0. Differences 1 and -2: 0.5 and 1.5, mean 1.
    prediction, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert BalancedLoss()(prediction, target).item() == pytest.approx(0.9 * 1 + 0.1 * 1)
    # beta 2: 1 / 4, and 2 - 1.
    assert BalancedLoss(0.5, 2.0, beta=2.0)(prediction, target).item() == pytest.approx(0.5 * 1 + 2 * 1.25 / 2)


def test_value_and_gradient_are_those_of_the_two_losses() -> None:
    prediction, target = torch.randn(2, 3, 7, 4, generator=torch.Generator().manual_seed(0)).unbind()
    gradients = []
    for loss in (BalancedLoss(0.3, 0.7), lambda p, t: 0.3 * CosineLoss()(p, t) + 0.7 * SmoothL1Loss()(p, t)):
        leaf = prediction.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(leaf, target), leaf)[0])
    torch.testing.assert_close(*gradients)
    parts = (
        3 * BalancedLoss()(prediction[:, :3], target[:, :3]) + 4 * BalancedLoss()(prediction[:, 3:], target[:, 3:])
    ) / 7
    torch.testing.assert_close(parts, BalancedLoss()(prediction, target))


def test_weights() -> None:
    with pytest.raises(ValueError, match=r"both 0: write cosine=0\.9"):
        BalancedLoss(0, 0)
    with pytest.raises(ValueError, match="cosine=-1"):
        BalancedLoss(cosine=-1)
