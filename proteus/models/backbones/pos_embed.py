"""Position embeddings at another grid than the one they were learnt on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def interpolate_pos_embed(
    pos_embed: Tensor,
    grid: tuple[int, int],
    new_grid: tuple[int, int],
    antialias: bool = False,
    offset: float = 0.1,
) -> Tensor:
    """Resample learnt position embeddings bicubically; prefix positions (cls) are kept as they are.

    The implementations of DINOv2 differ here, and differ by more than rounding: Meta's first release scales by
    ``(new + 0.1) / old`` without antialiasing (the defaults), its register models antialias with no offset,
    as timm does, and ``transformers`` does neither (``antialias=False, offset=0.0``).

    Args:
        pos_embed: ``(1, P + h * w, D)``, with ``P >= 0`` prefix positions first.
        grid: ``(h, w)`` that ``pos_embed`` was learnt on.
        new_grid: ``(h', w')`` wanted.
        antialias: Low-pass filter when shrinking.
        offset: Added to the new size when the scale factor is computed; 0 resamples to the exact size.

    Returns:
        ``(1, P + h' * w', D)``, in the dtype of ``pos_embed``.
    """
    if grid == new_grid:
        return pos_embed
    prefix = pos_embed.shape[1] - grid[0] * grid[1]
    patches = pos_embed[:, prefix:].float().unflatten(1, grid).permute(0, 3, 1, 2)
    if offset:
        scale = ((new_grid[0] + offset) / grid[0], (new_grid[1] + offset) / grid[1])
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic", antialias=antialias)
        if patches.shape[-2:] != new_grid:
            raise ValueError(
                f"interpolate_offset={offset} turns a {grid[0]}x{grid[1]} position embedding into "
                f"{patches.shape[-2]}x{patches.shape[-1]} where {new_grid[0]}x{new_grid[1]} is needed: set it to 0.0"
            )
    else:
        patches = F.interpolate(patches, size=new_grid, mode="bicubic", antialias=antialias)
    patches = patches.flatten(2).transpose(1, 2).to(pos_embed.dtype)
    return torch.cat([pos_embed[:, :prefix], patches], dim=1)
