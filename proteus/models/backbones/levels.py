"""Feature levels of timm's models: maps of several stages or blocks as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from proteus.utils.resampling import resampling_weights


def feature_levels(model: Any, key: str, arch: str, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Check the numbers of feature levels.

    Args:
        model: timm's model.
        key: Argument that holds the numbers, for messages.
        arch: Name of the model, for messages.
        wanted: Stages or blocks as timm numbers them (its ``feature_info``), negative from the end; None for the last
            four.

    Returns:
        The levels, the nearest to the image first, counted from 0.

    Raises:
        ValueError: The model gives no maps of its stages, or a level does not exist.
    """
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(
            f"arch={arch!r}: timm gives no intermediate maps of a {type(model).__name__}; most of its CNNs "
            "and ViTs have them: convnext_tiny, resnet50, swin_tiny_patch4_window7_224"
        )
    count = len(model.feature_info)
    levels = range(max(0, count - 4), count) if wanted is None else wanted
    numbers = isinstance(levels, Sequence) and all(type(each) is int for each in levels)
    if not numbers or not levels:
        raise ValueError(f"{key}={wanted!r} of {arch}: write numbers of its {count} levels (0 to {count - 1})")
    if any(not -count <= each < count for each in levels):
        raise ValueError(f"{key}={list(levels)} of {arch}, which has {count} levels (0 to {count - 1})")
    return tuple(sorted({each % count for each in levels}))


def token_width(backbone: Any, kind: str) -> int:
    """Return the width of a backbone's tokens, which differ where ``patches`` are of several feature levels.

    Args:
        backbone: Any module that returns ``Features``.
        kind: ``cls`` or ``patches``.
    """
    width: int = getattr(backbone, "patch_dim", backbone.embed_dim) if kind == "patches" else backbone.embed_dim
    return width


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps ``(B, D_i, h_i, w_i)`` along channels; coarser ones are resampled to the finest (bilinear)."""
    finest = (max([each.shape[2] for each in maps]), max([each.shape[3] for each in maps]))
    return torch.cat([_resampled(each, finest) for each in maps], dim=1)


def _resampled(level: Tensor, grid: tuple[int, int]) -> Tensor:
    if level.shape[2:] == grid:
        return level
    rows, columns = (
        resampling_weights(old, new, "bilinear", level.device).to(level.dtype)
        for old, new in zip(level.shape[2:], grid, strict=True)
    )
    return torch.einsum("xw,bdyw->bdyx", columns, torch.einsum("yh,bdhw->bdyw", rows, level))
