"""Resampling of patch tokens and masks from one grid to another; nothing else in training resamples them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.structures import Features
from proteus.utils.precision import no_autocast

Grid = tuple[int, int]
Mode = Literal["area", "bilinear", "antialias"]
MODES: tuple[Mode, ...] = ("area", "bilinear", "antialias")
"""Ways of resampling."""


def resample(features: Features, grid: Grid, mode: Mode = "area") -> Features:
    """Resample the patch tokens to another grid, with gradients; both grids cover the whole image.

    Args:
        features: Features with patches ``(B, h * w, D)``.
        grid: ``(H, W)``, the grid to resample to.
        mode: ``area``: the mean over the area of each new cell, with the parts of old cells that it cuts. It keeps the
            mean over the image. ``bilinear``: between the centres of the four nearest cells. ``antialias``: bilinear,
            with a filter as wide as the new cells where they are larger (Pillow's ``BILINEAR``).

    Returns:
        ``features`` itself if it has that grid; else features with the same ``cls``, and patches ``(B, H * W, D)`` in
        float32 whatever the autocast.
    """
    if features.grid == grid:
        return features
    device = features.patches.device
    with no_autocast(device):
        rows, columns = (weights(old, new, mode, device) for old, new in zip(features.grid, grid, strict=True))
        tokens = features.patches.float().unflatten(1, features.grid)
        tokens = torch.einsum("yh,bhwd->bywd", rows, tokens)
        patches = torch.einsum("xw,bywd->byxd", columns, tokens).flatten(1, 2)
    return Features(features.cls, patches, grid)


def resample_masks(masks: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Carry masks over to another grid: a new cell is masked if at least half of its area is.

    Args:
        masks: ``(M, h * w)`` bool.
        grid: ``(h, w)``.
        new_grid: ``(H, W)``.

    Returns:
        ``masks`` itself if the grids are equal, else ``(M, H * W)`` bool.
    """
    if grid == new_grid:
        return masks
    with no_autocast(masks.device):
        rows, columns = (overlaps(old, new, masks.device) for old, new in zip(grid, new_grid, strict=True))
        # Whole numbers, which float32 holds exactly, so that half a cell is half on any device.
        area = torch.einsum("yh,mhw,xw->myx", rows, masks.unflatten(1, grid).float(), columns)
    return (2 * area >= grid[0] * grid[1]).flatten(1)


@torch.no_grad()
def weights(old: int, new: int, mode: Mode, device: torch.device) -> Tensor:
    """Weights ``(new, old)`` of the old cells along one side in each new one; the rows add up to 1.

    All modes are separable. As a product the gradient is the same each time, which that of torch's bilinear
    interpolation is not on a GPU.
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
