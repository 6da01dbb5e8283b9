"""Pictures on disk."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from proteus.utils.atomic import atomic_path


def save_picture(picture: Image.Image | Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write a picture so that it appears under its name once it is complete; its folder is made.

    Args:
        picture: A Pillow image or a figure of matplotlib's.
        path: File to write; its ending is the format.
        dpi: Dots per inch of a figure.

    Returns:
        The file.

    Raises:
        FullDiskError: The disk is full.
    """
    path = Path(path)
    kind = path.suffix[1:].lower() or "png"
    with atomic_path(path, durable=False) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, dpi=dpi, format=kind)
        else:
            picture.save(temporary, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    return path
