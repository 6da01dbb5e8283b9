"""Mean and covariance of tokens that come in parts and on several processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor


class Moments(NamedTuple):
    """Number, mean and scatter of tokens.

    Attributes:
        number: Number of tokens, a scalar.
        mean: ``(D,)``.
        scatter: Sum of the squared deviations from the mean of each channel, ``(D,)``, or of the products of the
            deviations of each pair of channels, ``(D, D)``.
    """

    number: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def none(cls, mean: Tensor, scatter: Tensor) -> Moments:
        """Of no tokens, with the shapes of ``mean`` and ``scatter``."""
        return cls(mean.new_zeros(()), torch.zeros_like(mean), torch.zeros_like(scatter))

    @classmethod
    @torch.no_grad()
    def of(cls, tokens: Tensor, pairs: bool) -> Moments:
        """Compute those of tokens ``(..., D)``; ``pairs`` for the products of pairs of channels.

        In float64: a few channels of a teacher may vary a thousand times more than others, and the directions of little
        variance would depend on rounding.
        """
        rows = tokens.detach().flatten(0, -2).double()
        mean = rows.mean(0)
        deviations = rows - mean
        scatter = deviations.T @ deviations if pairs else deviations.square().sum(0)
        return cls(mean.new_full((), len(rows)), mean, scatter)

    def plus(self, other: Moments) -> Moments:
        """Those of both sets of tokens together (Chan, Golub and LeVeque, "Algorithms for computing the sample
        variance", The American Statistician 37, 1983).
        """
        number = self.number + other.number
        share = other.number / number.clamp(min=1)
        shift = other.mean - self.mean
        outer = torch.outer(shift, shift) if self.scatter.ndim == 2 else shift.square()
        return Moments(number, self.mean + share * shift, self.scatter + other.scatter + self.number * share * outer)

    def of_all_ranks(self) -> Moments:
        """Those of the tokens of all processes; all take part."""
        sums = torch.cat([self.number[None], self.number * self.mean])
        all_reduce(sums)
        number, mean = sums[0], sums[1:] / sums[0].clamp(min=1)
        shift = self.mean - mean
        outer = torch.outer(shift, shift) if self.scatter.ndim == 2 else shift.square()
        scatter = self.scatter + self.number * outer
        all_reduce(scatter)
        return Moments(number, mean, scatter)
