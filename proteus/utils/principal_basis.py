"""A narrow stream's coordinates in a wide one."""

from __future__ import annotations

import torch
from torch import Tensor


def basis_of_moment(moment: Tensor, width: int, gains: Tensor | None = None) -> Tensor:
    """Return the leading principal directions of a transformer's stream as coordinates of a narrower one.

    One coordinate is added in which the stream is always zero, so that the narrow LayerNorm's centring changes nothing.

    Args:
        moment: Second moment of the normalised stream, ``(D, D)`` in float64.
        width: Width ``d`` of the narrow stream, at most ``D``.
        gains: ``(D,)``, those of a LayerNorm of the wide stream; the coordinates are turned until they become gains of
            the narrow one, as far as they can.

    Returns:
        ``(d, D)`` in float32: maps the stream to ``d`` coordinates, and its transpose back. Its
        columns sum to zero.
    """
    size = len(moment)
    # What LayerNorm hands on is centred, so that nothing lies along the ones, but for rounding.
    ones = torch.full((size, 1), size**-0.5, dtype=moment.dtype, device=moment.device)
    leading = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, : width - 1]
    directions = torch.linalg.qr(leading - ones @ (ones.T @ leading)).Q
    if gains is not None:
        scaled = gains.double()[:, None] * directions
        directions = directions @ torch.linalg.eigh(scaled.T @ scaled).eigenvectors
    return (_orthogonal_to_ones(width, moment) @ directions.T).float()


def _orthogonal_to_ones(width: int, like: Tensor) -> Tensor:
    """``(d, d - 1)``: orthonormal columns, each of which sums to zero and is nearly a unit vector (Householder's)."""
    normal = torch.full((width, 1), width**-0.5, dtype=like.dtype, device=like.device)
    normal[-1] -= 1
    identity = torch.eye(width, dtype=like.dtype, device=like.device)
    return (identity - 2 * normal @ normal.T / normal.square().sum())[:, :-1]
