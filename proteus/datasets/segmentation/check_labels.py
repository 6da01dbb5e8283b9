"""Check masks for labels beyond the classes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from proteus.datasets.segmentation.masks import check_mask_kind, read_mask
from proteus.registry import TRANSFORMS
from proteus.structures import DataError
from proteus.utils.image_files import opened


@TRANSFORMS.register_module()
class CheckLabels:
    """Refuse a mask with labels beyond the classes, or of another size than its image; stands after LoadAnnotations.

    LoadAnnotations reduces labels to 8 bits, so that 300 becomes 44: masks with more bits are read again.

    Args:
        num_classes: Number of classes.
        ignore_index: The label of pixels that count nowhere.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check ``gt_seg_map`` ``(H, W)`` and hand ``results`` on.

        Raises:
            DataError: Names the file, and what was found in it.
            CorruptImageError: The file cannot be read any more.
        """
        mask, path = results["gt_seg_map"], results["seg_map_path"]
        if mask.ndim != 2:
            raise DataError(f"{path}: the mask has {mask.shape[-1]} channels; write one of class numbers")
        if tuple(mask.shape) != tuple(results["ori_shape"][:2]):
            raise DataError(
                f"{path}: the mask is {_size(mask.shape)} px, its image {results['img_path']} "
                f"{_size(results['ori_shape'])}"
            )
        wrong = mask[(mask >= self.num_classes) & (mask != self.ignore_index)]
        shift = int(bool(results.get("reduce_zero_label")))
        if wrong.size:
            raise DataError(unknown_label(path, int(wrong.max()) + shift, self.num_classes, shift))
        if os.path.isfile(path):  # otherwise MMEngine read it with another file client
            self._check_bits(path, shift)
        return results

    def _check_bits(self, path: str, shift: int) -> None:
        with opened(path) as image:
            if check_mask_kind(path, image) == 8:
                return
        stored = read_mask(path)
        wrong = stored[(stored < 0) | (stored > np.iinfo(np.uint8).max)]
        if wrong.size:
            raise DataError(unknown_label(path, int(wrong.max()), self.num_classes, shift))


def unknown_label(path: str, label: int, num_classes: int, shift: int) -> str:
    """Word the refusal of a label as it stands in the file; ``shift`` is 1 where 0 is 'no class'."""
    zero = ", 0 for no class" if shift else ""
    return (
        f"{path}: label {label} in a mask of {num_classes} classes (known: {shift} to {num_classes - 1 + shift}{zero}, "
        "255 to ignore); mend the mask, or convert the labels to this numbering"
    )


def _size(shape: Any) -> str:
    return f"{shape[1]}x{shape[0]}"
