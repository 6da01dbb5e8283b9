"""Open image files; every error names the file. Pixels are read by :mod:`proteus.utils.images`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from proteus.structures import CorruptImageError, UserError
from proteus.utils.text import printable

REMEDY = "save it with 8 or 16 bits per channel"

# Allowed formats of the content, whatever the file name. Pillow has others, some of which run programs (EPS).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "PPM", "GIF", "JPEG2000", "AVIF")
_LARGEST = 1 << 31  # bytes


class RefusedPixelsError(ValueError):
    """Pixels of a kind that cannot be scaled to 8 bits without guessing, or that Pillow reads wrongly."""


@contextmanager
def opened(source: str | Path | bytes, name: str | Path | None = None) -> Iterator[Image.Image]:
    """Open an image file with Pillow, and report any error inside the block as a corrupt file.

    Args:
        source: The file, or its content.
        name: What to call it in errors; the file by default.

    Raises:
        CorruptImageError: The file is missing, not an image, or damaged. A :class:`UserError` of the block passes.
    """
    called = name if name is not None else "the image" if isinstance(source, bytes) else source
    try:
        if not isinstance(source, bytes):
            _check_file(source)
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()) as image:
            yield image
    except (UserError, MemoryError):  # refusals of the block, not damaged files
        raise
    except Exception as error:  # Pillow's decoders raise many types for damaged data
        raise as_corrupt(called, error, source) from error


def read_content(path: str | Path) -> bytes:
    """Read a whole image file.

    Raises:
        CorruptImageError: The file is missing, unreadable, not a regular file, or larger than any image.
    """
    try:
        _check_file(path)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise as_corrupt(path, error) from error


def as_corrupt(name: str | Path, error: Exception, source: str | Path | bytes | None = None) -> CorruptImageError:
    """Report an error with its file in one line: ``path (type: reason)``.

    Args:
        name: The file; control characters are escaped.
        error: What was raised.
        source: The file or its content, to recognise an unsupported TIFF.
    """
    if isinstance(error, RefusedPixelsError):
        return CorruptImageError(printable(f"{name} ({error})"))
    # For bytes, Pillow's message contains a memory address, which differs every time.
    reason = "not an image file" if isinstance(error, UnidentifiedImageError) else str(error)
    if isinstance(error, Image.DecompressionBombError):
        reason = f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; cut it into tiles"
    if isinstance(error, UnidentifiedImageError) and _head(source)[:4] in (b"II*\0", b"MM\0*"):
        reason = f"a TIFF with pixels of a kind that Pillow cannot read; {REMEDY}"
    return CorruptImageError(printable(f"{name} ({type(error).__name__}: {reason})"))


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_file(path: str | Path) -> None:
    """Refuse pipes and devices, which may never end, and files larger than memory."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError("a pipe, socket or device, not a regular file")
    if found.st_size > _LARGEST:
        raise OSError(f"{found.st_size / 1e9:.1f} GB, larger than any image")


def _head(source: str | Path | bytes | None) -> bytes:
    if source is None or isinstance(source, bytes):
        return (source or b"")[:4]
    try:
        with open(source, "rb") as file:
            return file.read(4)
    except OSError:
        return b""
