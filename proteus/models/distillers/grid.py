"""Resampling of patch tokens and masks from one grid to another."""

from __future__ import annotations

import torch
from torch import Tensor

from proteus.structures import Features
from proteus.utils.precision import no_autocast
from proteus.utils.resampling import Mode, overlaps, resampling_weights

Grid = tuple[int, int]


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
        rows, columns = (
            resampling_weights(old, new, mode, device) for old, new in zip(features.grid, grid, strict=True)
        )
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
