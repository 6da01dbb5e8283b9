"""Load image files."""

from __future__ import annotations

from typing import Any, ClassVar

from PIL import Image

from proteus.registry import TRANSFORMS
from proteus.structures import CorruptImageError as CorruptImageError
from proteus.utils.images import open_rgb


@TRANSFORMS.register_module()
class LoadImage:
    """Load ``img_path`` into ``img``, an upright PIL image in RGB (:func:`~proteus.utils.images.open_rgb`).

    If the data set provides the file's content as ``img_bytes``, no file is opened.

    Args:
        short_side: Reduce images with a longer shorter side to this many pixels. If possible, a JPEG is decoded at 1/2,
            1/4 or 1/8 of its size. By default images keep their size.
        cache_in_memory: Keep all images in memory after they were read, for small proxy sets.

    Attributes:
        reads_files: Marks transforms that load or check files; predictors skip them, since they get images. Set it in a
            loader of yours.

    Raises:
        ValueError: ``short_side`` is not a positive integer.
    """

    reads_files: ClassVar[bool] = True

    def __init__(self, short_side: int | None = None, cache_in_memory: bool = False) -> None:
        if short_side is not None and (type(short_side) is not int or short_side < 1):
            raise ValueError(f"LoadImage.short_side={short_side!r}: write a positive integer of pixels, or None")
        self.short_side = short_side
        self.cached: dict[str, Image.Image] | None = {} if cache_in_memory else None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode the complete file.

        Raises:
            CorruptImageError: The file is missing, not an image, truncated, or of a type without defined 8-bit values;
                the message has the path and the reason.
        """
        path, content = results["img_path"], results.pop("img_bytes", None)
        if self.cached is not None and path in self.cached:
            results["img"] = self.cached[path].copy()
            return results
        results["img"] = open_rgb(path if content is None else content, path, self.short_side)
        if self.cached is not None:
            self.cached[path] = results["img"].copy()
        return results
