"""From a file to pixels."""

from __future__ import annotations

from typing import Any

from PIL import Image

from proteus.registry import TRANSFORMS


class CorruptImageError(ValueError):
    """An image file that cannot be read to its end."""


@TRANSFORMS.register_module()
class LoadImage:
    """Read ``img_path`` into ``img``, a PIL image in RGB.

    Args:
        min_side: Where a JPEG is larger than needed, decode it at a half, quarter or eighth of its size, as long as
            its shorter side keeps so many pixels; by default every file is decoded whole.
    """

    def __init__(self, min_side: int | None = None) -> None:
        self.min_side = min_side

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode the whole file.

        Raises:
            CorruptImageError: It is missing, no image, or cut short; the message is the path and the reason.
        """
        path = results["img_path"]
        try:
            with Image.open(path) as image:
                if self.min_side is not None:
                    # PIL takes the smallest size that still covers the one asked for.
                    scale = min(1.0, self.min_side / min(image.size))
                    image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
                results["img"] = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what PIL's decoders raise
            raise CorruptImageError(f"{path} ({type(error).__name__}: {error})") from error
        return results
