"""Rotations after which all coordinates have the same variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def hadamard(order: int) -> Tensor | None:
    """Build a Hadamard matrix: entries 1 and -1, and orthogonal rows.

    Sylvester's products of smaller matrices, and Paley's two constructions from the squares modulo a prime ``q``, of
    orders ``q + 1`` for ``q = 3 (mod 4)`` and ``2 (q + 1)`` for ``q = 1 (mod 4)`` (Paley, "On orthogonal matrices",
    Journal of Mathematics and Physics 12, 1933). That gives the widths of common models: 192, 384, 768, 1024, 1152,
    1280, 1408, 1536, 1664, 2048.

    Args:
        order: Number of rows.

    Returns:
        ``(order, order)`` in float64; None where these constructions give none (orders above 2 that 4 does not divide,
        for which there is no Hadamard matrix, and some multiples of 4, such as 92).
    """
    if order == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if order == 2:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    if order < 1 or order % 4:
        return None
    for factor in (2, *range(4, math.isqrt(order) + 1, 4)):
        if order % factor == 0:
            first, second = hadamard(factor), hadamard(order // factor)
            if first is not None and second is not None:
                return torch.kron(first, second)
    if (order - 1) % 4 == 3 and _is_prime(order - 1):
        return _conference(order - 1) + torch.eye(order, dtype=torch.float64)
    if order // 2 % 4 == 2 and _is_prime(order // 2 - 1):
        conference = _conference(order // 2 - 1)
        identity = torch.eye(order // 2, dtype=torch.float64)
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        other = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
        return torch.kron(conference, pair) + torch.kron(identity, other)
    return None


def spreading_rotation(variances: Tensor) -> Tensor:
    """Return an orthogonal matrix that gives uncorrelated coordinates of these variances one common variance.

    A Hadamard matrix divided by the square root of its order, whatever the variances are; where :func:`hadamard` has
    none of this order, plane rotations, each of which brings one coordinate to the mean (Bendel and Mickey,
    "Population correlation matrices for sampling experiments", Communications in Statistics B7, 1978).

    Args:
        variances: ``(D,)`` in float64.

    Returns:
        ``Q`` ``(D, D)`` in float64: the diagonal of ``Q diag(variances) Q^T`` is constant.
    """
    matrix = hadamard(len(variances))
    if matrix is not None:
        return matrix.to(variances.device) / math.sqrt(len(variances))
    return _plane_rotations(variances.cpu()).to(variances.device)


def _plane_rotations(variances: Tensor) -> Tensor:
    size = len(variances)
    matrix, rotation = torch.diag(variances), torch.eye(size, dtype=variances.dtype)
    mean = float(variances.mean())
    for _ in range(size - 1):
        diagonal = matrix.diagonal()
        low, high = int(diagonal.argmin()), int(diagonal.argmax())
        a, b, c = float(diagonal[low]), float(diagonal[high]), float(matrix[low, high])
        if not a < mean < b:
            break
        # tan(angle) solves (b - mean) t^2 + 2 c t + (a - mean) = 0: the coordinate `low` gets the variance `mean`.
        tangent = (-c + math.sqrt(c * c - (b - mean) * (a - mean))) / (b - mean)
        cos = 1 / math.sqrt(1 + tangent * tangent)
        sin = cos * tangent
        turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=variances.dtype)
        pair = [low, high]
        matrix[pair] = turn @ matrix[pair]
        matrix[:, pair] = matrix[:, pair] @ turn.T
        rotation[pair] = turn @ rotation[pair]
        matrix[low, low] = mean  # exactly, so that it is not chosen again
    return rotation


def _conference(prime: int) -> Tensor:
    """``(q + 1, q + 1)``: 0 on the diagonal, 1 and -1 elsewhere, and orthogonal rows."""
    squares = {number * number % prime for number in range(1, prime)}
    character = torch.tensor([0.0] + [1.0 if number in squares else -1.0 for number in range(1, prime)])
    numbers = torch.arange(prime)
    matrix = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    matrix[1:, 1:] = character[(numbers[:, None] - numbers) % prime]
    matrix[0, 1:] = 1
    matrix[1:, 0] = 1 if prime % 4 == 1 else -1
    return matrix


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
