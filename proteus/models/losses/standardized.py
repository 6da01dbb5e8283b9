"""Squared error in units of each channel's standard deviation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number


@MODELS.register_module()
class StandardizedMSELoss(nn.Module):
    """Mean squared error against the teacher's tokens, standardised by each channel's running mean and variance.

    ``mean((p - (t - mu) / sqrt(var + eps))^2)``: every channel counts alike, and the head predicts standardised tokens.
    :meth:`restore` brings a prediction back to the teacher's space. Sources: Theia (Shang et al., CoRL 2024, arXiv
    2407.20179), with statistics computed before training, and UNIC (Sariyildiz et al., ECCV 2024, arXiv 2408.05088),
    with running ones.

    The statistics are those of the steps before this one, over the tokens of all ranks, so that neither the number of
    ranks nor that of micro-batches changes a term. In the first step, which has none, this is ``MSELoss``.

    Args:
        momentum: Weight of the newest step in the statistics; by default all tokens so far count alike, which suits a
            frozen teacher.
        eps: Added to the variances, in squared units of the teacher's features.

    Attributes:
        mean: ``(D,)``, saved in checkpoints.
        variance: ``(D,)``, likewise.
        count: Number of tokens behind them, likewise.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, momentum: float | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        if momentum is not None:
            check_number("momentum", momentum, 0, 1, above=True)
        self.momentum = momentum
        self.eps = check_number("eps", eps, 0, above=True)
        # Number, mean and summed squared deviations of each part of this step so far.
        self._parts: list[tuple[int, Tensor, Tensor]] = []

    def set_channels(self, channels: int) -> None:
        """Make statistics of ``channels`` channels; the objective calls it, since it knows the teacher's width."""
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two ``(..., D)`` tensors; returns a scalar. In training, take in the target's statistics."""
        if self.training:
            tokens = target.detach().flatten(0, -2)
            mean = tokens.mean(0)
            self._parts.append((len(tokens), mean, (tokens - mean).square().sum(0)))
        return F.mse_loss(prediction, (target - self.mean) / self._deviation())

    def restore(self, prediction: Tensor) -> Tensor:
        """Map a prediction ``(..., D)`` of standardised tokens to the teacher's space."""
        return prediction * self._deviation() + self.mean

    @torch.no_grad()
    def end_step(self) -> None:
        """Take the step's tokens into the statistics; all ranks take part, those without tokens as well."""
        parts, self._parts = self._parts, []
        # 1. Mean of the step's tokens, and their variance around it: squares of deviations, not of values, since a
        # channel's mean may be much larger than its deviation.
        sums = torch.cat([torch.zeros_like(self.mean), self.mean.new_zeros(1)])
        for count, mean, _ in parts:
            sums += torch.cat([count * mean, mean.new_full((1,), count)])
        all_reduce(sums)
        number = sums[-1]
        newest = sums[:-1] / number.clamp(min=1)
        squares = torch.zeros_like(self.mean)
        for count, mean, deviations in parts:
            squares += deviations + count * (mean - newest).square()
        all_reduce(squares)
        variance = squares / number.clamp(min=1)

        # 2. The mixture of the earlier tokens and these, by the share of these.
        total = self.count + number.long()
        share = number / total.clamp(min=1)
        if self.momentum is not None:
            share = torch.where((self.count > 0) & (number > 0), self.momentum, share)
        shift = newest - self.mean
        self.mean.add_(share * shift)
        self.variance.lerp_(variance, share).add_(share * (1 - share) * shift.square())
        self.count.copy_(total)

    def _deviation(self) -> Tensor:
        # Without statistics the variance is 1, and eps would be felt.
        return torch.where(self.count > 0, (self.variance + self.eps).sqrt(), 1.0)
