"""Mask transforms: choose the patches that the student must recover."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from proteus.registry import TRANSFORMS
from proteus.structures import UserError
from proteus.utils.argument_checks import check_number, check_side


class MaskTransform(ABC):
    """Base class of mask transforms: adds ``mask``, ``(h * w,)`` bool, for the tensor image ``img``.

    Derive mask transforms of yours from it. Batches are then checked for masked images, fixed views
    redraw the masks, teacher caches do not depend on them, and online evaluation masks as training does.

    Args:
        ratio: Fraction of the patches to mask, or the range from which it is drawn for each image.
        patch_size: Side of a patch in pixels.

    Raises:
        ValueError: ``ratio`` is outside [0, 1], or ``patch_size`` is not a positive integer.
    """

    draws_masks: ClassVar[bool] = True
    """Read by the checks of configs, which do not import data sets."""

    def __init__(self, ratio: float | Sequence[float] = 0.5, patch_size: int = 14) -> None:
        name = type(self).__name__
        ends = (ratio, ratio) if not isinstance(ratio, Sequence) or isinstance(ratio, str) else tuple(ratio)
        if len(ends) != 2:
            raise ValueError(f"{name}.ratio={ratio!r}: write a fraction in [0, 1], or (lowest, highest)")
        self.low, self.high = (check_number(f"{name}.ratio", end) for end in ends)
        if not 0 <= self.low <= self.high <= 1 or not self.high:
            raise ValueError(f"{name}.ratio={ratio}: write a fraction above 0 and up to 1, or (lowest, highest)")
        self.patch_size = check_side(f"{name}.patch_size", patch_size)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``mask``, ``(h * w,)`` bool, where ``img`` is ``(C, h * patch_size, w * patch_size)``."""
        height, width = (side // self.patch_size for side in results["img"].shape[-2:])
        count = int(height * width * random.uniform(self.low, self.high))
        if int(height * width * self.high) == 0:
            size = "x".join(map(str, results["img"].shape[-2:]))
            raise UserError(
                f"{type(self).__name__}: ratio={self.high} masks none of the {height * width} patches of {size} px; "
                f"write a larger ratio, or a smaller patch_size than {self.patch_size}"
            )
        results["mask"] = self.draw(height, width, count).flatten()
        return results

    @abstractmethod
    def draw(self, height: int, width: int, count: int) -> Tensor:
        """Choose about ``count`` patches; returns ``(height, width)`` bool, True where masked."""


@TRANSFORMS.register_module()
class UniformMask(MaskTransform):
    """Mask an exact number of uniformly random patches, as in the released code (docs/reproduction.md#masking).

    Args:
        ratio: Fraction of the patches to mask, or the range from which it is drawn for each image.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, ratio: float | Sequence[float] = 0.5, patch_size: int = 14) -> None:
        super().__init__(ratio, patch_size)

    def draw(self, height: int, width: int, count: int) -> Tensor:
        """Choose exactly ``count`` patches."""
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[torch.randperm(height * width)[:count]] = True
        return mask.view(height, width)


@TRANSFORMS.register_module()
class BlockMask(MaskTransform):
    """Mask rectangles of patches, as in iBOT and in the paper's text (docs/reproduction.md#masking).

    Blocks are added until the count is reached or ten consecutive attempts fail. The area of a block is between a ninth
    of the squared shorter side and the number of missing patches; the count is never exceeded.

    Args:
        ratio: Fraction of the patches to mask, or the range from which it is drawn for each image.
        patch_size: Side of a patch in pixels.
        aspect: Range of a block's height divided by its width, drawn log-uniformly.
    """

    def __init__(
        self,
        ratio: float | Sequence[float] = (0.1, 0.5),
        patch_size: int = 14,
        aspect: Sequence[float] = (0.3, 1 / 0.3),
    ) -> None:
        super().__init__(ratio, patch_size)
        self.log_aspect = math.log(aspect[0]), math.log(aspect[1])

    def draw(self, height: int, width: int, count: int) -> Tensor:
        """Choose at most ``count`` patches."""
        mask = torch.zeros(height, width, dtype=torch.bool)
        missing, attempts = count, 0
        while missing > 0 and attempts < 10:
            added = self._add_block(mask, missing)
            missing -= added
            attempts = 0 if added else attempts + 1
        return mask

    def _add_block(self, mask: Tensor, missing: int) -> int:
        """Add one block in place if it fits and covers 1 to ``missing`` new patches; returns their number."""
        height, width = mask.shape
        area = random.uniform((min(height, width) // 3) ** 2, missing)
        aspect = math.exp(random.uniform(*self.log_aspect))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < rows < height and 0 < columns < width):
            return 0
        top, left = random.randint(0, height - rows), random.randint(0, width - columns)
        block = mask[top : top + rows, left : left + columns]
        new = rows * columns - int(block.sum())
        if not 0 < new <= missing:
            return 0
        block.fill_(True)
        return new
