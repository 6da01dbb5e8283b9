"""Losses between a depth map and the ground truth.

Each takes predicted and true depth ``(B, H, W)`` in metres. Pixels with a true depth of 0, NaN, infinity or more than
``max_depth`` never count: their gradient is exactly 0 for any prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number, check_whole

# Below this a root is taken for 0, with gradient 0: the slope of a root at 0 is infinite.
_TINY = 1e-12


@MODELS.register_module()
class SiLogLoss(nn.Module):
    """Scale-invariant error of the logarithm, image by image (Eigen et al. 2014, eq. 4, under a root).

    ``sqrt(mean d^2 - variance_focus * mean(d)^2)`` with ``d = log(prediction) - log(truth)``, averaged over the images
    that have any known depth. Predictions below ``eps``, negative ones included, count as ``eps`` and get no gradient,
    as in the released code (docs/reproduction.md#nyu-depth-v2); there the gradient is not a number where the prediction
    is right, here it is 0.

    Args:
        variance_focus: 0: the plain error; 1: the scale does not matter.
        eps: Metres; the least depth that is known, and the least that a prediction counts as.
        max_depth: Metres; truth beyond does not count.
        loss_weight: Factor.
    """

    name = "silog"

    def __init__(
        self,
        variance_focus: float = 0.5,
        eps: float = 1e-6,
        max_depth: float | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_number("SiLogLoss.variance_focus", variance_focus, 0, 1)
        _check(eps, max_depth, loss_weight)
        self.variance_focus, self.eps, self.max_depth, self.loss_weight = variance_focus, eps, max_depth, loss_weight

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """Compare ``(B, H, W)`` with ``(B, H, W)``; returns a scalar."""
        valid = known(target, self.eps, self.max_depth)
        error = _log(depth.clamp(min=self.eps), valid) - _log(target, valid)
        count = valid.sum(dim=(1, 2))
        mean = error.sum(dim=(1, 2)) / count.clamp(min=1)
        mean_square = error.square().sum(dim=(1, 2)) / count.clamp(min=1)
        images = _root(mean_square - self.variance_focus * mean.square())
        return self.loss_weight * images.sum() / (count > 0).sum().clamp(min=1)


@MODELS.register_module()
class SigLoss(nn.Module):
    """The Monocular-Depth-Estimation-Toolbox's scale-invariant loss, over the pixels of the whole batch at once.

    ``sqrt(var(g) + 0.15 mean(g)^2)`` with ``g = log(prediction + eps) - log(truth + eps)``; in the first iterations
    only ``sqrt(0.15 mean(g)^2)``, which brings the depth to the right scale (docs/reproduction.md#nyu-depth-v2). The
    count of iterations is in the checkpoint, so that a resumed run continues it.

    Args:
        max_depth: Metres; truth beyond does not count.
        warm_up: Whether to begin without the variance.
        warm_iter: For how many iterations.
        eps: Metres.
        loss_weight: Factor.

    Attributes:
        steps: Iterations so far, int64.
    """

    name = "depth"
    steps: Tensor

    def __init__(
        self,
        max_depth: float | None = None,
        warm_up: bool = False,
        warm_iter: int = 100,
        eps: float = 1e-3,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check(eps, max_depth, loss_weight, above=False)
        check_whole("warm_iter", warm_iter, least=0)
        self.max_depth, self.eps, self.loss_weight = max_depth, eps, loss_weight
        self.warm_iter = warm_iter if warm_up else 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """Compare ``(B, H, W)``, above ``-eps``, with ``(B, H, W)``; returns a scalar."""
        valid = known(target, 0.0, self.max_depth)
        error = _log(depth + self.eps, valid) - _log(target + self.eps, valid)
        count = valid.sum()
        mean = error.sum() / count.clamp(min=1)
        spread = torch.where(valid, error - mean, 0.0).square().sum() / (count - 1).clamp(min=1)
        # Without a question to the device: which of the two counts is decided there.
        warm = self.steps < self.warm_iter
        self.steps += 1
        return self.loss_weight * _root(torch.where(warm, 0.0, spread) + 0.15 * mean.square())


@MODELS.register_module()
class GradientLoss(nn.Module):
    """Differences of the logarithmic error between neighbours, at several scales (Li & Snavely 2018, section 3.2).

    At scale ``k`` every ``2^k``-th pixel is taken; the absolute differences across and down between pixels that are
    both known are added and divided by the number of known pixels. Scales are summed. It sharpens edges, which
    :class:`SiLogLoss` hardly sees; the released recipe has none.

    Args:
        scales: How many.
        eps: Metres; as for :class:`SiLogLoss`.
        max_depth: Metres; truth beyond does not count.
        loss_weight: Factor.
    """

    name = "gradient"

    def __init__(
        self, scales: int = 4, eps: float = 1e-3, max_depth: float | None = None, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        check_whole("GradientLoss.scales", scales)
        _check(eps, max_depth, loss_weight)
        self.scales, self.eps, self.max_depth, self.loss_weight = scales, eps, max_depth, loss_weight

    def forward(self, depth: Tensor, target: Tensor) -> Tensor:
        """Compare ``(B, H, W)`` with ``(B, H, W)``; returns a scalar."""
        valid = known(target, self.eps, self.max_depth)
        error = _log(depth.clamp(min=self.eps), valid) - _log(target, valid)
        total = error.new_zeros(())
        for scale in range(self.scales):
            step = 2**scale
            some, counts = error[:, ::step, ::step], valid[:, ::step, ::step]
            across = (some[:, :, 1:] - some[:, :, :-1]).abs() * (counts[:, :, 1:] & counts[:, :, :-1])
            down = (some[:, 1:] - some[:, :-1]).abs() * (counts[:, 1:] & counts[:, :-1])
            total = total + (across.sum() + down.sum()) / counts.sum().clamp(min=1)
        return self.loss_weight * total


def known(target: Tensor, eps: float, max_depth: float | None) -> Tensor:
    """Whether the true depth of a pixel is above ``eps``, finite, and at most ``max_depth``; of the target's shape."""
    return (target > eps) & (target <= max_depth if max_depth is not None else target.isfinite())


def _log(depth: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, depth, 1.0).log()


def _root(value: Tensor) -> Tensor:
    # NaN is not at most _TINY: it stays NaN, and the run stops.
    zero = value <= _TINY
    return torch.where(zero, 0.0, torch.where(zero, 1.0, value).sqrt())


def _check(eps: float, max_depth: float | None, loss_weight: float, above: bool = True) -> None:
    check_number("eps", eps, 0, above=above)
    check_number("loss_weight", loss_weight, 0)
    if max_depth is not None:
        check_number("max_depth", max_depth, 0, above=True)
