"""From a file to pixels."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image, UnidentifiedImageError

from proteus.registry import TRANSFORMS
from proteus.structures import UserError

# What PIL's decoders raise.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class CorruptImageError(UserError):
    """An image file that cannot be read to its end."""


def as_corrupt(path: str, error: Exception) -> CorruptImageError:
    """Say of which file an error is; ``path (type: reason)``."""
    # PIL names what it was given: for bytes an address, which would make each failure another one.
    reason = "not an image file" if isinstance(error, UnidentifiedImageError) else error
    return CorruptImageError(f"{path} ({type(error).__name__}: {reason})")


@TRANSFORMS.register_module()
class LoadImage:
    """Read ``img_path`` into ``img``, a PIL image in RGB.

    Where a set has the file's content at hand, it gives ``img_bytes`` along, and nothing is opened.

    Args:
        short_side: Reduce images whose shorter side is longer than this many pixels; a JPEG is then decoded at a half,
            quarter or eighth of its size where that suffices. By default images keep their size.
        keep: Keep every image in memory once it was read, for proxy sets that are small and read often.
    """

    def __init__(self, short_side: int | None = None, keep: bool = False) -> None:
        self.short_side = short_side
        self.kept: dict[str, Image.Image] | None = {} if keep else None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode the whole file.

        Raises:
            CorruptImageError: It is missing, no image, or cut short; the message is the path and the reason.
        """
        path, content = results["img_path"], results.pop("img_bytes", None)
        if self.kept is not None and path in self.kept:
            results["img"] = self.kept[path].copy()
            return results
        try:
            with Image.open(path if content is None else BytesIO(content)) as image:
                results["img"] = self._reduced(image).convert("RGB")
        except UNREADABLE as error:
            raise as_corrupt(path, error) from error
        if self.kept is not None:
            self.kept[path] = results["img"].copy()
        return results

    def _reduced(self, image: Image.Image) -> Image.Image:
        if self.short_side is None or min(image.size) <= self.short_side:
            return image
        scale = self.short_side / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        # PIL's JPEG decoder takes the smallest of its sizes that still covers this one.
        image.draft("RGB", size)
        # A palette has no colours between its own, and cannot be resized smoothly.
        return (image.convert("RGB") if image.mode == "P" else image).resize(size, Image.Resampling.BICUBIC)
