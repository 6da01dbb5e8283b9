"""JPEG by libjpeg-turbo, at a fraction of its size, through simplejpeg where that is installed.

What simplejpeg refuses (damaged data, CMYK, rare encodings) is left to PIL, which decides what is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

Pixels = NDArray[np.uint8]

# libjpeg-turbo has fast code for these only: 5/8, 6/8 and 7/8 take longer than the whole.
_REDUCTIONS = (8, 4, 2)
_EXIF_OR_XMP, _PIXELS = 0xE1, 0xDA  # APP1, SOS
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))
_told: set[str] = set()


def tell_decoder() -> None:
    """Say once per process that JPEGs are decoded the slower way, if they are."""
    if simplejpeg is None and not _told:
        _told.add("told")
        print_log("simplejpeg is not installed, PIL decodes JPEGs more slowly: pip install -e '.[fast]'", "current")


def reduction(box: Sequence[int], size: int) -> int:
    """The largest of 8, 4, 2 and 1 by which an image may be divided so that the box still has ``size`` pixels a side.

    Args:
        box: Left, top, right and bottom edge in pixels.
        size: Side of what will be made of it.
    """
    shorter = min(box[2] - box[0], box[3] - box[1])
    return next((by for by in _REDUCTIONS if shorter >= by * size), 1)


def read_size(content: bytes) -> tuple[int, int] | None:
    """The height and width of a JPEG that :func:`decode` may be asked for, or None for anything else."""
    if simplejpeg is None or content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    # PIL refuses what is too large to be an image, and says so.
    too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS
    return None if too_large or space.upper() in ("CMYK", "YCCK") else (height, width)


def may_be_turned(content: bytes) -> bool:
    """Whether a JPEG has metadata that can hold an orientation; reads only the headers before the pixels."""
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


def decode(content: bytes, height: int, width: int, by: int) -> Pixels | None:
    """Decode a JPEG whose size is known.

    Args:
        content: The file.
        height: Its height in pixels.
        width: Its width.
        by: What its sides are divided by: 1, 2, 4 or 8.

    Returns:
        ``(height / by, width / by, 3)``, rounded up, uint8 RGB: the pixels that PIL's decoder gives. None where the
        data is damaged in any way.
    """
    try:
        return simplejpeg.decode_jpeg(
            content, "RGB", min_height=-(-height // by), min_width=-(-width // by), min_factor=by
        )
    except ValueError:
        return None
