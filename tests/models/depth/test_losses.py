from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from proteus.models import GradientLoss, SigLoss, SiLogLoss

LOSSES = [SiLogLoss(), SiLogLoss(variance_focus=1.0), SigLoss(), SigLoss(warm_up=True), GradientLoss()]


def by_logarithm(*errors: float) -> tuple[Tensor, Tensor]:
    """Depth and truth of one row, with these differences of their logarithms."""
    target = torch.linspace(1, 3, len(errors))[None, None]
    return target * torch.tensor(errors).exp()[None, None], target


def test_silog_worked_by_hand() -> None:
    depth, target = by_logarithm(0.5, -0.5, 0.5, 0.5)
    # mean d^2 = 0.25, mean d = 0.25.
    assert SiLogLoss(0.5)(depth, target).item() == pytest.approx(math.sqrt(0.25 - 0.5 * 0.0625), abs=1e-6)
    assert SiLogLoss(1.0)(depth, target).item() == pytest.approx(math.sqrt(0.25 - 0.0625), abs=1e-6)
    assert SiLogLoss(0.0, loss_weight=3)(depth, target).item() == pytest.approx(1.5, abs=1e-6)


def test_silog_is_the_mean_over_images_that_have_depth() -> None:
    (one, truth), (two, other) = by_logarithm(0.3, 0.3), by_logarithm(0.8, -0.4)
    loss = SiLogLoss(0.5)
    apart = [loss(one, truth), loss(two, other)]
    torch.testing.assert_close(loss(torch.cat([one, two]), torch.cat([truth, other])), (apart[0] + apart[1]) / 2)
    nothing = torch.zeros_like(truth)
    torch.testing.assert_close(loss(torch.cat([one, two]), torch.cat([truth, nothing])), apart[0])


def test_silog_equals_mmsegs() -> None:
    silog = pytest.importorskip("mmseg.models.losses.silog_loss")
    torch.manual_seed(0)
    depth, target = 3 * torch.rand(4, 9, 7) - 0.2, 3 * torch.rand(4, 9, 7)
    target[torch.rand(4, 9, 7) < 0.3] = 0
    mine, theirs = depth.clone().requires_grad_(), depth.clone().requires_grad_()
    ours, expected = SiLogLoss()(mine, target), silog.SiLogLoss()(theirs, target)
    torch.testing.assert_close(ours, expected)
    for value in (ours, expected):
        value.backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_sigloss_worked_by_hand() -> None:
    depth, target = by_logarithm(0.5, -0.5, 0.5, 0.5)
    # The unbiased variance of the four is 0.25, their mean 0.25.
    loss = SigLoss(eps=0.0)
    assert loss(depth, target).item() == pytest.approx(math.sqrt(0.25 + 0.15 * 0.0625), abs=1e-6)
    warm = SigLoss(eps=0.0, warm_up=True, warm_iter=2)
    values = [warm(depth, target).item() for _ in range(3)]
    assert values[:2] == pytest.approx([math.sqrt(0.15) * 0.25] * 2, abs=1e-6)
    assert values[2] == pytest.approx(loss(depth, target).item(), abs=1e-6)
    assert SigLoss(eps=0.1)(torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.1]]])).item() == pytest.approx(
        math.sqrt((g := math.log(1.1 / 2.2)) ** 2 / 2 + 0.15 * (g / 2) ** 2), abs=1e-6
    )


def test_sigloss_resumes_its_warm_up() -> None:
    depth, target = by_logarithm(0.5, -0.5, 0.5)
    first, second = SigLoss(warm_up=True, warm_iter=3), SigLoss(warm_up=True, warm_iter=3)
    for _ in range(2):
        first(depth, target)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        assert torch.equal(first(depth, target), second(depth, target))
    assert int(second.steps) == 5


def test_gradient_loss_worked_by_hand() -> None:
    target = torch.ones(1, 2, 3)
    errors = torch.tensor([[[0.0, 0.5, 0.5], [1.0, 0.0, 0.5]]])
    # Across 0.5 + 0 + 1 + 0.5, down 1 + 0.5 + 0, of six pixels.
    assert GradientLoss(scales=1)(errors.exp(), target).item() == pytest.approx(3.5 / 6, abs=1e-6)
    # Every second pixel of the first row: 0 and 0.5.
    assert GradientLoss(scales=2)(errors.exp(), target).item() == pytest.approx(3.5 / 6 + 0.5 / 2, abs=1e-6)
    target[0, 0, 1] = 0
    # Left are 1 + 0.5 across, 1 + 0 down, of five pixels.
    assert GradientLoss(scales=1)(errors.exp(), target).item() == pytest.approx(2.5 / 5, abs=1e-6)


def test_gradient_loss_does_not_see_the_scale() -> None:
    target = torch.rand(1, 16, 16) + 1
    assert GradientLoss()(2 * target, target).item() == pytest.approx(0, abs=1e-5)
    assert GradientLoss()(target + 1, target).item() > 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_numbers_where_the_prediction_is_right(loss: nn.Module) -> None:
    target = torch.rand(2, 8, 8) + 1
    depth = target.clone().requires_grad_()
    value = loss(depth, target)
    value.backward()
    assert value.item() == 0
    assert depth.grad is not None
    assert depth.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_unknown_depth_never_counts(loss: nn.Module, nothing: float) -> None:
    torch.manual_seed(0)
    target, base = torch.rand(2, 8, 8) + 1, torch.rand(2, 8, 8) + 1
    unknown = torch.rand(2, 8, 8) < 0.4
    target[unknown] = nothing
    values = []
    for there in (0.5, -3.0, float("nan"), float("inf")):
        depth = base.masked_fill(unknown, there).requires_grad_()
        value = loss(depth, target)
        value.backward()
        values.append(value.item())
        assert depth.grad is not None
        assert (depth.grad[unknown] == 0).all()
        assert (depth.grad[~unknown] != 0).any()
        assert depth.grad.isfinite().all()
    assert len(set(values)) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_any_depth_gives_zero(loss: nn.Module) -> None:
    depth = torch.rand(2, 8, 8).requires_grad_()
    value = loss(depth, torch.zeros(2, 8, 8))
    value.backward()
    assert value.item() == 0
    assert depth.grad is not None
    assert (depth.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_depth_that_is_not_finite_is_seen_in_the_loss(loss: nn.Module, wrong: float) -> None:
    depth = torch.rand(2, 8, 8) + 1
    depth[0, 3, 3] = wrong
    assert not loss(depth, torch.ones(2, 8, 8)).isfinite()


@pytest.mark.parametrize("kind", [SiLogLoss, SigLoss, GradientLoss])
def test_truth_that_is_too_far_does_not_count(kind: type[nn.Module]) -> None:
    depth, target = torch.rand(1, 4, 4) + 1, torch.rand(1, 4, 4) + 1
    target[0, 0, 0] = 20
    far = depth.clone()
    far[0, 0, 0] = 9
    assert torch.equal(kind(max_depth=10)(depth, target), kind(max_depth=10)(far, target))
    assert not torch.equal(kind()(depth, target), kind()(far, target))


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    depth = (torch.rand(2, 5, 5, dtype=torch.float64) + 1).requires_grad_()
    target = torch.rand(2, 5, 5, dtype=torch.float64) + 1
    target[0, 1] = 0
    for loss in (SiLogLoss(), SigLoss(), GradientLoss(scales=2)):
        assert torch.autograd.gradcheck(lambda value, loss=loss: loss(value, target), depth)
