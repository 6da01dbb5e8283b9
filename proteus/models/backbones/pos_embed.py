"""Position embeddings at another grid than the one they were learnt on."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.utils.precision import no_autocast


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


def resample_learnt(
    pos_embed: Tensor, grid: tuple[int, int], new_grid: tuple[int, int], antialias: bool, offset: float
) -> Tensor:
    """Resample position embeddings that are being trained, as :func:`interpolate_pos_embed` up to rounding.

    They change in each step, but their resampling does not: it is a matrix, which is computed once for each grid. With
    the product also the gradient is the same each time; that of bicubic interpolation is not, on a GPU.

    Args:
        pos_embed: As for :func:`interpolate_pos_embed`.
        grid: Likewise.
        new_grid: Likewise.
        antialias: Likewise.
        offset: Likewise.
    """
    prefix = pos_embed.shape[1] - grid[0] * grid[1]
    matrix = _resampling(grid, new_grid, antialias, offset, pos_embed.device)
    with no_autocast(pos_embed.device):
        patches = matrix @ pos_embed[:, prefix:].float()
    return torch.cat([pos_embed[:, :prefix], patches.to(pos_embed.dtype)], dim=1)


@torch.compiler.assume_constant_result
def _resampling(
    grid: tuple[int, int], new_grid: tuple[int, int], antialias: bool, offset: float, device: torch.device
) -> Tensor:
    return _resampling_matrix(grid, new_grid, antialias, offset, device)


@lru_cache(maxsize=64)
def _resampling_matrix(
    grid: tuple[int, int], new_grid: tuple[int, int], antialias: bool, offset: float, device: torch.device
) -> Tensor:
    """The matrix ``(h' * w', h * w)`` of :func:`interpolate_pos_embed`, which is linear."""
    with torch.inference_mode(False), torch.no_grad():
        unit = torch.eye(grid[0] * grid[1], device=device)[None]
        return interpolate_pos_embed(unit, grid, new_grid, antialias, offset)[0].contiguous()


class FrozenPositions:
    """Position embeddings that do not change, resampled once for each change of the grid."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._kept: Tensor | None = None

    def resampled(
        self, pos_embed: Tensor, grid: tuple[int, int], new_grid: tuple[int, int], antialias: bool, offset: float
    ) -> Tensor:
        """Return the result of :func:`interpolate_pos_embed`, the last one if nothing has changed."""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if traced or pos_embed.is_meta or type(pos_embed) is not nn.Parameter or type(pos_embed.data) is not Tensor:
            return interpolate_pos_embed(pos_embed, grid, new_grid, antialias, offset)
        place = (pos_embed.data_ptr(), pos_embed.dtype, pos_embed.device, pos_embed._version)
        key = (place, grid, new_grid, antialias, offset)
        if self._kept is None or key != self._key:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = interpolate_pos_embed(pos_embed, grid, new_grid, antialias, offset)
            self._key = key
        return self._kept

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenPositions:
        return FrozenPositions()
