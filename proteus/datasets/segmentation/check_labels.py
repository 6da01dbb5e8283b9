"""Read masks of classes as they are stored, and check their labels."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from proteus.registry import TRANSFORMS
from proteus.structures import DataError
from proteus.utils.image_files import opened
from proteus.utils.stored_numbers import check_stored_numbers

# Bits of Pillow's single-channel modes; the labels of a palette image are its palette indices.
_BITS = {"1": 8, "L": 8, "P": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32}


@TRANSFORMS.register_module()
class CheckLabels:
    """Check that a mask has only known labels and the size of its image; put it after ``LoadAnnotations``.

    ``LoadAnnotations`` reduces labels to 8 bits (300 becomes 44), so masks with more bits are read again.

    Args:
        num_classes: Number of classes.
        ignore_index: Label of ignored pixels.
    """

    reads_files: ClassVar[bool] = True

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check ``gt_seg_map`` ``(H, W)``; ``results`` are unchanged.

        Raises:
            DataError: The mask is invalid; the message names the file.
            CorruptImageError: The file cannot be read.
        """
        mask, path = results["gt_seg_map"], results["seg_map_path"]
        if mask.ndim != 2:
            raise DataError(f"{path}: the mask has {mask.shape[-1]} channels; write one channel of class numbers")
        if tuple(mask.shape) != tuple(results["ori_shape"][:2]):
            raise DataError(
                f"{path}: the mask is {_size(mask.shape)} px, but its image {results['img_path']} is "
                f"{_size(results['ori_shape'])}"
            )
        wrong = mask[(mask >= self.num_classes) & (mask != self.ignore_index)]
        shift = int(bool(results.get("reduce_zero_label")))
        if wrong.size:
            raise DataError(self._unknown(path, int(wrong.max()) + shift, shift))
        if os.path.isfile(path):  # otherwise MMEngine has read it with another file client
            self._check_bits(path, shift)
        return results

    def _check_bits(self, path: str, shift: int) -> None:
        with opened(path) as image:
            if check_mask_kind(path, image) == 8:
                return
        stored = read_mask(path)
        wrong = stored[(stored < 0) | (stored > np.iinfo(np.uint8).max)]
        if wrong.size:
            raise DataError(self._unknown(path, int(wrong.max()), shift))

    def _unknown(self, path: str, label: int, shift: int) -> str:
        return unknown_label(path, label, self.num_classes, shift, stored_ignored(self.ignore_index, shift))


def read_mask(path: str) -> np.ndarray:
    """Read a mask with the labels as stored in the file, ``(H, W)`` of integers.

    Raises:
        CorruptImageError: The file is missing, not an image, or truncated.
        DataError: The mask has several channels, floating-point numbers or an orientation, or its format changes
            numbers.
    """
    with opened(path) as image:
        check_mask_kind(path, image)
        labels = np.asarray(image)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def check_mask_kind(path: str, image: Image.Image) -> int:
    """Check that the pixels of an opened image can be labels; returns their number of bits, 8, 16 or 32.

    Raises:
        DataError: The pixels cannot be labels; the message names the file and the type of its pixels.
    """
    bands = image.getbands()
    if len(bands) != 1:
        raise DataError(
            f"{path}: the mask has {len(bands)} channels ({''.join(bands)}); write one channel of class numbers"
        )
    if image.mode not in _BITS:
        raise DataError(f"{path}: the mask holds floating-point numbers; write class numbers in 8 bits")
    check_stored_numbers(path, image, "mask")
    return _BITS[image.mode]


def stored_ignored(ignore_index: int, shift: int) -> int:
    """Return the label of ignored pixels in a file; mmseg's ``reduce_zero_label`` shifts all but 255."""
    return ignore_index + (shift if ignore_index != 255 else 0)


def unknown_label(path: str, label: int, num_classes: int, shift: int, ignored: int = 255) -> str:
    """Format the error for an unknown label of a file; ``shift`` is 1 if label 0 means 'no class'."""
    zero = ", 0 for no class" if shift else ""
    return (
        f"{path}: label {label} in a mask of {num_classes} classes (known: {shift} to {num_classes - 1 + shift}{zero}, "
        f"{ignored} to ignore); correct the mask, or convert its labels"
    )


def _size(shape: Any) -> str:
    return f"{shape[1]}x{shape[0]}"
