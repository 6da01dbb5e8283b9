"""Decode JPEGs at a reduced size with libjpeg-turbo, through simplejpeg if it is installed.

Whatever simplejpeg cannot read (damaged data, CMYK, rare encodings) is left to PIL, which decides what is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

Pixels = NDArray[np.uint8]

# libjpeg-turbo is fast for these only: decoding at 5/8, 6/8 or 7/8 takes longer than at full size.
_REDUCTIONS = (8, 4, 2)
_EXIF_OR_XMP, _PIXELS = 0xE1, 0xDA  # APP1, SOS
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))


@cache
def log_slow_decoder() -> None:
    """Log once per process that PIL decodes JPEGs if simplejpeg is not installed."""
    if simplejpeg is None:
        print_log("simplejpeg is not installed, PIL decodes JPEGs more slowly: pip install simplejpeg", "current")


def reduction(box: Sequence[int], size: int | tuple[int, int]) -> int:
    """Find the largest reduction, 8, 4, 2 or 1, at which a box still has the pixels of the output along each side.

    Args:
        box: Left, top, right and bottom edge in pixels.
        size: Height and width in pixels to which the box will be resized; an integer for a square.
    """
    rows, columns = size if isinstance(size, tuple) else (size, size)
    height, width = box[3] - box[1], box[2] - box[0]
    return next((each for each in _REDUCTIONS if height >= each * rows and width >= each * columns), 1)


def read_size(content: bytes) -> tuple[int, int] | None:
    """Read height and width of a JPEG from its header; None if :func:`decode` cannot read the file."""
    if simplejpeg is None or content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    # Leave implausibly large images to PIL, which raises an error for them.
    too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS
    return None if too_large or space.upper() in ("CMYK", "YCCK") else (height, width)


def may_be_turned(content: bytes) -> bool:
    """Whether a JPEG has metadata that can hold an orientation; only the headers before the pixels are read."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in (_EXIF_OR_XMP, _PIXELS):
            return marker == _EXIF_OR_XMP
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return True  # an unusual file: let Pillow look


def decode(content: bytes, height: int, width: int, reduction: int) -> Pixels | None:
    """Decode a JPEG of known size.

    Args:
        content: Bytes of the file.
        height: Full height in pixels.
        width: Full width in pixels.
        reduction: Divisor of both sides: 1, 2, 4 or 8.

    Returns:
        ``(height / reduction, width / reduction, 3)`` rounded up, uint8 RGB, with the pixels that PIL's decoder gives.
        None if the data is damaged.
    """
    sides = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
    try:
        return simplejpeg.decode_jpeg(content, "RGB", **sides, min_factor=reduction)
    except ValueError:
        return None
