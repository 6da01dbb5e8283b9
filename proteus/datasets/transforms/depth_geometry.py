"""Geometric changes of an image and its depth map together; sizes in pixels.

None of them changes a depth: a picture that is enlarged looks nearer and keeps its metres, in the released code as in
the Monocular-Depth-Estimation-Toolbox. What a change uncovers has depth 0, which is invalid.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import wrap

from proteus.registry import TRANSFORMS


def _on_both(results: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    for key in ("img", "depth"):
        results[key] = change(results[key])
    return results


def _size(image: Any) -> tuple[int, int]:
    height, width = functional.get_size(image)
    return height, width


def fitted_size(height: int, width: int, scale: Sequence[int]) -> tuple[int, int]:
    """The largest size of the same shape whose sides stay within a scale, rounded as MMCV rounds.

    Args:
        height: Present height.
        width: Present width.
        scale: Most that the longer and the shorter side may have, in either order.

    Returns:
        ``(height, width)``.
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


@TRANSFORMS.register_module()
class DepthRandomFlip:
    """Mirror left to right.

    Args:
        prob: How often.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror both, or neither."""
        return _on_both(results, functional.horizontal_flip) if random.random() < self.prob else results


@TRANSFORMS.register_module()
class DepthRandomResize:
    """Resize by a random ratio, keeping the shape; the depth map takes the nearest pixel.

    See docs/reproduction.md#nyu-depth-v2.

    Args:
        scale: Most that the longer and the shorter side have at ratio 1.
        ratio_range: From where the ratio is drawn.
        interpolation: Of the image; a name of torchvision's ``InterpolationMode``.
    """

    def __init__(
        self,
        scale: Sequence[int] = (770, 512),
        ratio_range: Sequence[float] = (0.8, 1.5),
        interpolation: str = "bilinear",
    ) -> None:
        self.scale = tuple(scale)
        self.low, self.high = ratio_range
        self.interpolation = v2.InterpolationMode(interpolation)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize both."""
        ratio = np.random.uniform(self.low, self.high)
        size = fitted_size(*_size(results["img"]), [int(side * ratio) for side in self.scale])
        results["img"] = functional.resize(results["img"], size, self.interpolation)
        # A Mask's own resizing takes the pixel at the upper left of where the image's is interpolated.
        depth = results["depth"].as_subclass(Tensor)[None]
        resized = functional.resize(depth, size, v2.InterpolationMode.NEAREST_EXACT)[0]
        results["depth"] = wrap(resized, like=results["depth"])
        return results


@TRANSFORMS.register_module()
class DepthRandomCrop:
    """Cut out a random part; a side that is shorter stays as it is, see :class:`DepthPad`.

    Args:
        size: Height and width of the part; a number for a square.
    """

    def __init__(self, size: int | Sequence[int] = 518) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut both at the same place."""
        height, width = _size(results["img"])
        top = np.random.randint(max(height - self.height, 0) + 1)
        left = np.random.randint(max(width - self.width, 0) + 1)
        bottom, right = min(height, top + self.height), min(width, left + self.width)
        return _on_both(results, lambda one: functional.crop(one, top, left, bottom - top, right - left))


@TRANSFORMS.register_module()
class DepthPad:
    """Pad at the right and at the bottom up to a size, after ``ToTensor``; padded depth is 0, invalid.

    The image comes out as floats, padded or not: ``fill`` need not be a byte's.

    Args:
        size: Least height and width; a number for a square.
        fill: Value of the image there, in [0, 1]. The released code pads after normalisation with mean 0.5,
            so what it pads with is 0.5 (docs/reproduction.md#nyu-depth-v2).
    """

    def __init__(self, size: int | Sequence[int] = 518, fill: float = 0.5) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        self.fill = fill

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad both.

        Raises:
            TypeError: The image is not a tensor yet.
        """
        if not isinstance(results["img"], Tensor):
            raise TypeError("DepthPad takes a tensor: put dict(type='ToTensor') before it in the pipeline")
        results["img"] = functional.to_dtype(results["img"], torch.float32, scale=True)
        height, width = _size(results["img"])
        missing = [0, 0, max(self.width - width, 0), max(self.height - height, 0)]
        if any(missing):
            results["img"] = functional.pad(results["img"], missing, fill=self.fill)
            results["depth"] = functional.pad(results["depth"], missing, fill=0)
        return results


@TRANSFORMS.register_module()
class DepthRandomRotate:
    """Turn about the middle; the depth map takes the nearest pixel, and the corners are black and invalid.

    Args:
        prob: How often.
        degree: By at most so much, to either side.
    """

    def __init__(self, prob: float = 0.5, degree: float = 2.5) -> None:
        self.prob, self.degree = prob, degree

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn both, or neither."""
        if random.random() >= self.prob:
            return results
        angle = random.uniform(-self.degree, self.degree)
        results["img"] = functional.rotate(results["img"], angle, v2.InterpolationMode.BILINEAR)
        results["depth"] = functional.rotate(results["depth"], angle)
        return results


@TRANSFORMS.register_module()
class NYUCrop:
    """Cut off the border of NYU's frames, where nothing was recorded: rows 45 to 471, columns 43 to 607 of 480 x 640.

    Args:
        box: First row, first column, and the row and the column after the last.
    """

    def __init__(self, box: Sequence[int] = (45, 43, 472, 608)) -> None:
        self.top, self.left, self.bottom, self.right = box

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut both.

        Raises:
            ValueError: The image is smaller than that.
        """
        height, width = _size(results["img"])
        if height < self.bottom or width < self.right:
            raise ValueError(
                f"{results['img_path']}: NYUCrop.box ends at row {self.bottom} and column {self.right}, and the image "
                f"is {width} x {height}; use it on frames of 640 x 480, before any resizing, or give another box"
            )
        rows, columns = self.bottom - self.top, self.right - self.left
        return _on_both(results, lambda one: functional.crop(one, self.top, self.left, rows, columns))


@TRANSFORMS.register_module()
class ResizeImage:
    """Resize the image alone, keeping its shape, for testing: the depth map keeps the size it is judged at.

    Args:
        scale: Most that the longer and the shorter side may have: ``(2044, 518)`` makes 691 x 518 of 640 x 480.
        divisor: Round both sides to multiples of this, a backbone's patch size; the shape is then kept nearly.
        interpolation: A name of torchvision's ``InterpolationMode``.
    """

    def __init__(self, scale: Sequence[int] = (2044, 518), divisor: int = 1, interpolation: str = "bilinear") -> None:
        self.scale = tuple(scale)
        self.divisor = divisor
        self.interpolation = v2.InterpolationMode(interpolation)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``results['img']``."""
        sides = fitted_size(*_size(results["img"]), self.scale)
        size = [max(1, round(side / self.divisor)) * self.divisor for side in sides]
        results["img"] = functional.resize(results["img"], size, self.interpolation)
        return results
