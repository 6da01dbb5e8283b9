"""From a file to a random crop, without decoding more than the crop needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proteus.datasets.transforms import jpeg
from proteus.datasets.transforms.crops import Box, check_interpolation, crop_and_resize
from proteus.registry import TRANSFORMS
from proteus.utils.image_files import opened, read_content
from proteus.utils.images import UPRIGHT, to_rgb, turn_of

Pixels = NDArray[np.uint8]


@TRANSFORMS.register_module()
class LoadRandomResizedCrop:
    """``LoadImage`` and ``RandomResizedCrop`` in one: a crop of ``img_path`` in ``img``, as an RGB array.

    The box is drawn from the size in the file's header, upright as its EXIF orientation says, by the draws of
    ``RandomResizedCrop``: the same key gives the same box. Of a turned photograph the crop alone is turned. A JPEG is
    decoded at a half, a quarter or an eighth where the box has at least ``size`` pixels a side even so. At full size
    the result is that of the two transforms within the rounding of the resize (a mean difference of 0.02 levels on
    photographs); at a fraction, finer detail was averaged away differently (0.6 levels, which is less than bilinear
    instead of bicubic interpolation makes).

    JPEGs are decoded by simplejpeg (``pip install -e '.[fast]'``), or by PIL where it is missing. Every other format,
    CMYK, and whatever simplejpeg refuses go through PIL, with the errors that ``LoadImage`` raises.

    Args:
        size: Side of the result.
        scale: Range of the crop's area as a share of the image's.
        ratio: Range of the crop's width over its height.
        interpolation: ``bicubic``, or another of PIL's by its name in torchvision.
        cache_last: Keep the last decoded image, so that its next view need not decode it again. Of use with
            ``ProxySampler(repeats=3, group_views=True)``; results do not depend on it.

    Raises:
        ValueError: There is no such interpolation.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
        cache_last: bool = False,
    ) -> None:
        check_interpolation(type(self).__name__, interpolation)
        self.size = size
        self.box = Box(size, scale, ratio)
        self.interpolation = interpolation
        self.cache_last = cache_last
        self._last: _File | None = None
        jpeg.tell_decoder()

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put ``(size, size, 3)`` uint8 in ``img``.

        Raises:
            CorruptImageError: The file is missing, no image, or cut short; the message is the path and the reason.
        """
        path, content = results["img_path"], results.pop("img_bytes", None)
        file = self._last if self._last is not None and self._last.path == path else None
        if file is None:
            file = _File(path, read_content(path) if content is None else content)
        width, height = file.turn.size(file.width, file.height)
        box = file.turn.box(self.box.draw(height, width), file.width, file.height)
        by = jpeg.reduction(box, self.size) if file.is_jpeg else 1
        pixels = file.decoded(by)
        self._last = file if self.cache_last else None
        crop = crop_and_resize(pixels, [edge / by for edge in box], self.size, self.interpolation)
        results["img"] = file.turn.array(crop)
        return results

    def __getstate__(self) -> dict[str, Any]:
        """What is remembered stays with its process."""
        return {**self.__dict__, "_last": None}


class _File:
    """An image file in memory, its size as stored, how to turn it, and what was decoded of it.

    Args:
        path: Where it is from.
        content: The file.

    Raises:
        CorruptImageError: The file is not an image, or is damaged.
    """

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self.content = content
        self._pixels: dict[int, Pixels] = {}
        size = jpeg.read_size(content)
        self.is_plain_jpeg = self.is_jpeg = size is not None
        if size is not None and not jpeg.may_be_turned(content):
            self.turn = UPRIGHT
        else:
            with opened(content, path) as image:
                self.is_jpeg = image.format in ("JPEG", "MPO")
                if not self.is_jpeg:  # decoded at full size; some formats store the orientation at the end of the file
                    self._pixels[1] = np.array(to_rgb(image))
                self.turn = turn_of(image)
                size = size or (image.height, image.width)
        self.height, self.width = size

    def decoded(self, by: int) -> Pixels:
        """The pixels as stored, ``(height / by, width / by, 3)`` rounded up.

        Raises:
            CorruptImageError: The file is truncated or damaged.
        """
        if by not in self._pixels:
            pixels = jpeg.decode(self.content, self.height, self.width, by) if self.is_plain_jpeg else None
            self._pixels[by] = self._by_pil(by) if pixels is None else pixels
        return self._pixels[by]

    def _by_pil(self, by: int) -> Pixels:
        with opened(self.content, self.path) as image:
            if by > 1:
                image.draft("RGB", (self.width // by, self.height // by))
            return np.array(to_rgb(image))
