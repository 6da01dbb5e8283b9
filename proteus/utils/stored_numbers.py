"""Check that masks and depth maps, images of numbers, are read as they were written."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from proteus.structures import DataError
from proteus.utils.images import is_turned

# Lossy formats; JPEG 2000 may be lossless, but its header does not show it.
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")


def check_stored_numbers(path: str | Path, image: Image.Image, what: str) -> None:
    """Refuse a file with numbers that its format, its reader or its orientation changes.

    Args:
        path: The file.
        image: What Pillow opened; its header is enough.
        what: ``mask`` or ``depth map``, for the message.

    Raises:
        DataError: The numbers would change; the message names the file and the cause.
    """
    compression = str(image.info.get("compression", ""))
    if image.format in _LOSSY or "jpeg" in compression or "webp" in compression:
        lossy = image.format if image.format in _LOSSY else f"TIFF with {compression} compression"
        raise DataError(f"{path}: the {what} is a {lossy}, which does not keep numbers; write it again, as PNG")
    if scaling := _scaling(image):
        raise DataError(f"{path}: the {what} has {scaling}; write it again, as PNG of 8 or 16 bits")
    if is_turned(image, path):
        raise DataError(
            f"{path}: the {what} has an EXIF orientation, and whether its pixels are turned already is unknown; "
            "save it upright and without EXIF"
        )


def _scaling(image: Image.Image) -> str:
    """Return why Pillow reads other numbers than are stored; empty if it does not."""
    tile = getattr(image, "tile", ())
    if not tile:
        return ""
    decoder, _, _, arguments = tile[0]
    values = arguments if isinstance(arguments, tuple) else (arguments,)
    kind = str(values[0])
    if decoder.startswith("ppm") and len(values) > 1 and values[1] not in (255, 65535):
        return f"a largest value of {values[1]}, to which readers scale its numbers"
    if kind.startswith("L;"):  # Pillow's names of 8 bits made from fewer, or inverted
        return "inverted numbers" if kind == "L;I" else "2 or 4 bits, which readers scale to 8"
    return ""
