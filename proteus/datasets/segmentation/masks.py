"""Read masks as stored: one number per pixel."""

from __future__ import annotations

import numpy as np
from PIL import Image

from proteus.structures import DataError
from proteus.utils.image_files import opened
from proteus.utils.stored_numbers import check_stored_numbers

# Pillow's names of single-channel pixels: a palette's numbers are the labels.
_BITS = {"1": 8, "L": 8, "P": 8, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16, "I": 32}


def read_mask(path: str) -> np.ndarray:
    """Read a mask, ``(H, W)`` of integers, with the labels that the file stores.

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
    """Check that the pixels of an opened image can be labels; returns their bits: 8, 16 or 32.

    Raises:
        DataError: They cannot; the message names the file and its kind of pixels.
    """
    bands = image.getbands()
    if len(bands) != 1:
        raise DataError(f"{path}: the mask has {len(bands)} channels ({''.join(bands)}); write one of class numbers")
    if image.mode not in _BITS:
        raise DataError(f"{path}: the mask holds floating-point numbers; write class numbers in 8 bits")
    check_stored_numbers(path, image, "mask")
    return _BITS[image.mode]
