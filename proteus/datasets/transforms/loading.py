"""From a file to pixels."""

from __future__ import annotations

from typing import Any

from PIL import Image

from proteus.registry import TRANSFORMS
from proteus.structures import CorruptImageError as CorruptImageError
from proteus.utils.images import open_rgb


@TRANSFORMS.register_module()
class LoadImage:
    """Read ``img_path`` into ``img``, an upright PIL image in RGB (:func:`~proteus.utils.images.open_rgb`).

    Where a set has the file's content at hand, it gives ``img_bytes`` along, and nothing is opened.

    Args:
        short_side: Reduce images whose shorter side is longer than this many pixels; a JPEG is then decoded at a half,
            quarter or eighth of its size where that suffices. By default images keep their size.
        cache_in_memory: Keep every image in memory once it was read, for proxy sets that are small and read often.

    Raises:
        ValueError: ``short_side`` is not a positive whole number.
    """

    def __init__(self, short_side: int | None = None, cache_in_memory: bool = False) -> None:
        if short_side is not None and (type(short_side) is not int or short_side < 1):
            raise ValueError(f"LoadImage.short_side={short_side!r}: write a positive whole number of pixels, or None")
        self.short_side = short_side
        self.kept: dict[str, Image.Image] | None = {} if cache_in_memory else None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode the whole file.

        Raises:
            CorruptImageError: The file is missing, not an image, truncated, or of a kind without defined 8-bit values;
                the message has the path and the reason.
        """
        path, content = results["img_path"], results.pop("img_bytes", None)
        if self.kept is not None and path in self.kept:
            results["img"] = self.kept[path].copy()
            return results
        results["img"] = open_rgb(path if content is None else content, path, self.short_side)
        if self.kept is not None:
            self.kept[path] = results["img"].copy()
        return results
