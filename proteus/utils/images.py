"""The image decoder of every loader, converter and tool, so that all see the same pixels.

The rule (``docs/images.md`` has a table):

- **Bits.** Pixels become 8 bits per channel by the full range of their kind: 16-bit grey by ``round(v / 257)``, 12-bit
  grey TIFF by ``round(v * 255 / 4095)``, 1, 2 and 4 bits by their largest value; floating point in [0, 1] by
  ``round(v * 255)``. 16 bits per colour channel lose their low byte, as Pillow reads them, which is at most one level
  below the rounded value. Signed and 32-bit integers, and floats outside [0, 1], have no defined white: they are
  refused by name.
- **Alpha is dropped**, as torchvision, timm and OpenCV drop it, before any resizing. Premultiplied colours are divided
  by their alpha first. Palettes give their colours, whatever their transparency.
- **Orientation.** The EXIF (or XMP) orientation is applied, so the picture is upright, as viewers and annotation tools
  show it. Masks and depth maps are arrays of numbers that belong to the upright picture: they are read as stored.
- **Colours** become RGB by Pillow's conversions (CMYK, YCbCr, LAB, HSV; Adobe's inverted CMYK JPEGs are put right). ICC
  profiles and PNG's gamma are ignored, as torchvision ignores them.
- Of several frames or pages, the first one counts.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from proteus.utils.image_files import REMEDY, RefusedPixelsError, opened

Pixels = NDArray[np.uint8]

EXTENSIONS: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
EXTENSIONS += (".ppm", ".pgm", ".pbm", ".gif", ".jp2")
"""Extensions of image files, in lower case."""
# Pillow reads AVIF, but not in every build of it, and a data set should be the same on every machine.
UNREAD_EXTENSIONS: tuple[str, ...] = (".heic", ".heif", ".hif", ".avif", ".jxl", ".j2k", ".jpx", ".psd", ".tga", ".svg")
UNREAD_EXTENSIONS += (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2")
"""Extensions of image files that are passed over and counted, in lower case."""

_ORIENTATION = 0x0112
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _PALETTE, _SAMPLE_FORMAT = 258, 259, 262, 284, 320, 339  # TIFF tags
_WHITE_IS_ZERO, _SIGNED, _UNCOMPRESSED, _SEPARATE = 0, 2, 1, 2


class Turn(NamedTuple):
    """How a stored picture becomes upright: mirrored first, then transposed.

    Attributes:
        mirror_x: Left and right change places.
        mirror_y: Top and bottom change places.
        transpose: Rows become columns.
    """

    mirror_x: bool = False
    mirror_y: bool = False
    transpose: bool = False

    def box(self, box: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
        """Find where a part of the upright picture is in the stored one.

        Args:
            box: Left, top, right and bottom edge in the upright picture.
            width: Width of the stored picture.
            height: Its height.
        """
        left, top, right, bottom = (box[1], box[0], box[3], box[2]) if self.transpose else box
        if self.mirror_x:
            left, right = width - right, width - left
        if self.mirror_y:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def array(self, pixels: Pixels) -> Pixels:
        """Turn ``(H, W, C)``; returns a contiguous array."""
        turned = pixels[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return np.ascontiguousarray(turned.swapaxes(0, 1) if self.transpose else turned)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (height, width) if self.transpose else (width, height)


UPRIGHT = Turn()
# By the value of the EXIF tag; 6 is a quarter turn clockwise.
_TURNS = {
    2: Turn(mirror_x=True),
    3: Turn(mirror_x=True, mirror_y=True),
    4: Turn(mirror_y=True),
    5: Turn(transpose=True),
    6: Turn(mirror_y=True, transpose=True),
    7: Turn(mirror_x=True, mirror_y=True, transpose=True),
    8: Turn(mirror_x=True, transpose=True),
}
_METHODS = {
    _TURNS[2]: Image.Transpose.FLIP_LEFT_RIGHT,
    _TURNS[3]: Image.Transpose.ROTATE_180,
    _TURNS[4]: Image.Transpose.FLIP_TOP_BOTTOM,
    _TURNS[5]: Image.Transpose.TRANSPOSE,
    _TURNS[6]: Image.Transpose.ROTATE_270,
    _TURNS[7]: Image.Transpose.TRANSVERSE,
    _TURNS[8]: Image.Transpose.ROTATE_90,
}


def open_rgb(source: str | Path | bytes, name: str | Path | None = None, short_side: int | None = None) -> Image.Image:
    """Read a picture, upright and in 8-bit RGB, by the rule at the top of this file.

    Args:
        source: Its file, or the file's content.
        name: What to call it in errors; the file by default.
        short_side: Reduce it so that its shorter side has this many pixels, if it has more. A JPEG is then decoded at a
            half, quarter or eighth of its size where that suffices.

    Returns:
        The picture, without metadata: nothing can turn it a second time.

    Raises:
        CorruptImageError: The file is missing, not an image, truncated, or of a kind without defined 8-bit values; the
            message has the name and the reason.
    """
    with opened(source, name) as image:
        size = image.size
        target = _reduced_size(size, short_side)
        if target != size:
            # Pillow's JPEG decoder uses the smallest of its sizes that covers this one.
            image.draft("RGB", target)
        rgb = to_rgb(image)
        if target != size:
            rgb = rgb.resize(target, Image.Resampling.BICUBIC)
        turn = turn_of(image)
        return rgb if turn == UPRIGHT else rgb.transpose(_METHODS[turn])


def rgb_array(source: str | Path | bytes, name: str | Path | None = None) -> Pixels:
    """Read a picture as :func:`open_rgb` does, as ``(H, W, 3)`` uint8."""
    return np.array(open_rgb(source, name))


def upright_size(source: str | Path | bytes, name: str | Path | None = None) -> tuple[int, int]:
    """Return the width and height of an image from :func:`open_rgb`, from the file's header if the format allows it.

    Raises:
        CorruptImageError: The file is missing or not an image.
    """
    with opened(source, name) as image:
        # Pillow reports the size of a TIFF after turning.
        return (
            image.size if image.format == "TIFF" or not is_turned(image, source) else turn_of(image).size(*image.size)
        )


def is_turned(image: Image.Image, source: str | Path | bytes) -> bool:
    """Whether an opened image that is not loaded yet has an orientation other than upright.

    Args:
        image: The image, inside the block of :func:`~proteus.utils.image_files.opened`.
        source: The file that it was opened from, or its content.
    """
    # Pillow decodes a PNG to look for metadata behind the pixels.
    return not (image.format == "PNG" and not _may_be_turned(source)) and turn_of(image) != UPRIGHT


def turn_of(image: Image.Image) -> Turn:
    """Return how to turn an image upright; not at all if the tag is missing, damaged or out of range.

    Load TIFFs first, since Pillow turns them while loading.
    """
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1), UPRIGHT)
    except MemoryError:
        raise
    except Exception:  # damaged metadata; damaged pixels are reported when they are decoded
        return UPRIGHT


def to_rgb(image: Image.Image) -> Image.Image:
    """Load an image inside the block of :func:`opened` and convert its pixels to 8-bit RGB, as they are stored.

    Raises:
        ValueError: The pixels have no defined 8-bit values, or are damaged; also what else Pillow raises.
    """
    image.load()
    tags = getattr(image, "tag_v2", {})
    _check_kind(image, tags)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG")):
        rgb = Image.fromarray(_from_integers(np.asarray(image), tags)).convert("RGB")
    elif image.mode == "I":
        raise _no_white("32-bit integers")
    elif image.mode == "F":
        rgb = Image.fromarray(_from_floats(np.asarray(image), tags)).convert("RGB")
    elif image.mode == "La":  # premultiplied, and Pillow converts it to LA alone
        rgb = image.convert("LA").convert("RGB")
    else:
        image.info.pop("transparency", None)  # dropped, and Pillow warns of some kinds of it
        rgb = image.convert("RGB")
    rgb.info.clear()
    return rgb


def _check_kind(image: Image.Image, tags: dict[int, object]) -> None:
    """Refuse pixels without a defined white, and those that Pillow reads wrongly without an error."""
    bits = max(_numbers(tags.get(_BITS)), default=0)
    palette = _numbers(tags.get(_PALETTE))
    if _SIGNED in _numbers(tags.get(_SAMPLE_FORMAT)):
        raise _no_white("signed integers")
    if bits > 8 and (tags.get(_PLANES), tags.get(_COMPRESSION)) == (_SEPARATE, _UNCOMPRESSED):
        raise RefusedPixelsError("16 bits in separate planes without compression: save it with 8 bits, or as PNG")
    if image.mode == "P" and 0 < max(palette, default=0) < 256:
        raise RefusedPixelsError("a TIFF palette has 16 bits, and this one ends below 256: save it as RGB")
    if image.mode == "P" and image.format == "PNG" and image.palette is None:
        raise RefusedPixelsError("a palette image without its palette")


def _from_integers(pixels: np.ndarray, tags: dict[int, object]) -> Pixels:
    bits = max(_numbers(tags.get(_BITS)), default=16)
    full = 4095 if bits == 12 else 65535
    grey = np.rint(np.clip(pixels.astype(np.float32), 0, full) * np.float32(255 / full)).astype(np.uint8)
    return _black_is_zero(grey, tags)


def _from_floats(pixels: np.ndarray, tags: dict[int, object]) -> Pixels:
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN compares as false
        found = f"from {pixels.min():g} to {pixels.max():g}" if np.isfinite(pixels).all() else "not all finite"
        raise _no_white(f"floating-point numbers, {found}, outside [0, 1]")
    return _black_is_zero(np.rint(pixels * 255).astype(np.uint8), tags)


def _black_is_zero(grey: Pixels, tags: dict[int, object]) -> Pixels:
    """Invert a TIFF that stores white as zero; Pillow does so for 8 bits only."""
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _no_white(kind: str) -> RefusedPixelsError:
    return RefusedPixelsError(f"its pixels are {kind}, which have no defined white: {REMEDY}")


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,) if isinstance(value, int) else ()


def _reduced_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    if short_side is None or min(size) <= short_side:
        return size
    scale = short_side / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def _may_be_turned(png: str | Path | bytes) -> bool:
    """Whether a PNG has a chunk that can hold an orientation; reads only the headers of chunks."""
    with BytesIO(png) if isinstance(png, bytes) else open(png, "rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
