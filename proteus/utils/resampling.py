"""Resampling along one side of a map, as a matrix."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["area", "bilinear", "antialias"]
MODES: tuple[Mode, ...] = ("area", "bilinear", "antialias")
"""Ways of resampling."""


@torch.no_grad()
def resampling_weights(old: int, new: int, mode: Mode, device: torch.device) -> Tensor:
    """Weights ``(new, old)`` of the old cells along one side in each new one; the rows add up to 1.

    All modes are separable. As a product the gradient is the same each time, which that of torch's bilinear
    interpolation is not on a GPU.

    Args:
        old: Number of cells that the side has.
        new: Number of cells that it gets.
        mode: As for :func:`~proteus.models.distillers.grid.resample`.
        device: Device of the weights.
    """
    if mode == "area":
        return overlaps(old, new, device) / old
    unit = torch.eye(old, device=device)[None, None]  # one row for each old cell; maps of width 1 would come out wrong
    found = F.interpolate(unit, (old, new), mode="bilinear", align_corners=False, antialias=mode == "antialias")
    return found[0, 0].T


def overlaps(old: int, new: int, device: torch.device) -> Tensor:
    """Overlap of each of ``new`` equal parts of a line with each of ``old`` ones.

    Returns:
        ``(new, old)`` in float32, in units of which the line has ``old * new``: whole numbers, ``old`` in each row.
    """
    starts = torch.arange(new, device=device)[:, None] * old
    old_starts = torch.arange(old, device=device) * new
    lengths = torch.minimum(starts + old, old_starts + new) - torch.maximum(starts, old_starts)
    return lengths.clamp(min=0).float()
