"""The residual streams of student and teacher on the same images, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from proteus.models.initialization.least_squares import LeastSquares

# Weight of the cls token (and registers): one token in hundreds, but most evaluations read it.
CLS_SHARE = 0.25


@dataclass
class StreamPair:
    """The streams of a batch, ``(B, N, d)`` and ``(B, N', D)``; the teacher may have more registers."""

    student: Tensor
    teacher: Tensor


class Streams:
    """The streams of all batches, and how they are compared.

    Attributes:
        basis: ``(d, D)``, maps the teacher's stream to the student's coordinates.
        prefix: Number of the student's prefix tokens: cls and registers.
        extra: Number of the teacher's last registers, which the student does not have.
    """

    def __init__(self, pairs: Iterable[StreamPair], basis: Tensor, prefix: int, extra: int = 0) -> None:
        self.basis = basis
        self.prefix = prefix
        self.extra = extra
        self._pairs = list(pairs)

    def __iter__(self) -> Iterator[StreamPair]:
        return iter(self._pairs)

    def shared(self, pair: StreamPair) -> Tensor:
        """Return the teacher's stream at the tokens that the student has, ``(B, N, D)``."""
        return without_registers(pair.teacher, self.prefix, self.extra)

    def missing(self, pair: StreamPair) -> Tensor:
        """Return what the student's stream lacks of the teacher's projected one, ``(B, N, d)``."""
        return self.shared(pair) @ self.basis.T - pair.student

    def run_student(self, step: Callable[[Tensor], Tensor]) -> None:
        """Add what half a block of the student writes to its stream."""
        for pair in self:
            pair.student = pair.student + step(pair.student)

    def weights(self, tokens: Tensor) -> Tensor:
        """Return the weight of each token of ``(B, N, D)`` in a fit, ``(B * N,)``."""
        return token_weights(tokens, self.prefix)

    def add(self, fit: LeastSquares, inputs: Tensor, outputs: Tensor) -> None:
        """Add tokens ``(B, N, I)`` and ``(B, N, O)`` to a fit, weighted."""
        fit.add(inputs.flatten(0, 1), outputs.flatten(0, 1), self.weights(outputs))

    def unexplained(self) -> float:
        """Return the squared error of the student's stream over the variance of the teacher's projected one."""
        wanted = torch.cat([self.shared(pair) @ self.basis.T for pair in self])
        missing = torch.cat([self.missing(pair) for pair in self])
        return (missing.square().sum() / (wanted - wanted.mean((0, 1))).square().sum()).item()


def without_registers(tokens: Tensor, prefix: int, extra: int) -> Tensor:
    """Leave out the ``extra`` tokens that follow the first ``prefix`` ones of ``(B, N, D)``."""
    return torch.cat([tokens[:, :prefix], tokens[:, prefix + extra :]], dim=1) if extra else tokens


def token_weights(tokens: Tensor, prefix: int) -> Tensor:
    """Return the weight of each token of ``(B, N, D)`` in a fit, ``(B * N,)``; those of an image add up to 1."""
    images, count, _ = tokens.shape
    weights = tokens.new_full((images, count), (1 - CLS_SHARE) / (count - prefix))
    weights[:, :prefix] = CLS_SHARE / prefix
    return weights.flatten()


def variances(batches: Iterable[Tensor], prefix: int) -> Tensor:
    """Return the variance of each entry of tokens ``(B, N, D)``, ``(D,)``."""
    images, moments = 0, []
    for tokens in batches:
        weights, rows = token_weights(tokens, prefix), tokens.flatten(0, 1)
        moments.append(torch.stack([weights @ rows, weights @ rows.square()]))
        images += len(tokens)
    mean, square = torch.stack(moments).sum(0) / images
    return square - mean.square()
