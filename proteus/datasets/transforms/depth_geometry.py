"""Geometric transforms of an image together with its depth map; sizes are in pixels.

Depths keep their values: an enlarged image looks nearer but has the same metres, as in the released code and in the
Monocular-Depth-Estimation-Toolbox. Uncovered pixels get depth 0, which is invalid.
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
    """Compute the largest size with the same aspect ratio that fits a scale, rounded as in MMCV.

    Args:
        height: Current height.
        width: Current width.
        scale: Upper limits of the longer and the shorter side, in either order.

    Returns:
        ``(height, width)``.
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


@TRANSFORMS.register_module()
class DepthRandomFlip:
    """Flip image and depth map horizontally.

    Args:
        prob: Probability of a flip.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Flip both, or neither."""
        return _on_both(results, functional.horizontal_flip) if random.random() < self.prob else results


@TRANSFORMS.register_module()
class DepthRandomResize:
    """Resize by a random ratio and keep the aspect ratio; the depth map is resized to the nearest pixel.

    See docs/reproduction.md#nyu-depth-v2.

    Args:
        scale: Upper limits of the longer and the shorter side at ratio 1.
        ratio_range: Range of the ratio.
        interpolation: Interpolation of the image, a name of torchvision's ``InterpolationMode``.
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
        # Resizing the Mask itself would take the pixel to the upper left of the one that the image interpolates.
        depth = results["depth"].as_subclass(Tensor)[None]
        resized = functional.resize(depth, size, v2.InterpolationMode.NEAREST_EXACT)[0]
        results["depth"] = wrap(resized, like=results["depth"])
        return results


@TRANSFORMS.register_module()
class DepthRandomCrop:
    """Crop a random part; sides that are shorter than the crop are kept (:class:`DepthPad` extends them).

    Args:
        size: Height and width of the crop, or the side of a square.
    """

    def __init__(self, size: int | Sequence[int] = 518) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop both at the same position."""
        height, width = _size(results["img"])
        top = np.random.randint(max(height - self.height, 0) + 1)
        left = np.random.randint(max(width - self.width, 0) + 1)
        bottom, right = min(height, top + self.height), min(width, left + self.width)
        return _on_both(results, lambda image: functional.crop(image, top, left, bottom - top, right - left))


@TRANSFORMS.register_module()
class DepthPad:
    """Pad to a minimum size at the right and at the bottom, after ``ToTensor``; padded depth is 0 (invalid).

    The output image is always float, since ``fill`` need not be the value of a byte.

    Args:
        size: Minimum height and width, or the side of a square.
        fill: Value of the padded image, in [0, 1]. The released code pads zeros after normalisation with mean 0.5,
            which is the value 0.5 (docs/reproduction.md#nyu-depth-v2).
    """

    def __init__(self, size: int | Sequence[int] = 518, fill: float = 0.5) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        self.fill = fill

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad both.

        Raises:
            TypeError: The image is not a tensor.
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
    """Rotate about the center; the depth map takes the nearest pixel, and the corners become black and invalid.

    Args:
        prob: Probability of a rotation.
        degree: Largest angle, in both directions.
    """

    def __init__(self, prob: float = 0.5, degree: float = 2.5) -> None:
        self.prob, self.degree = prob, degree

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate both, or neither."""
        if random.random() >= self.prob:
            return results
        angle = random.uniform(-self.degree, self.degree)
        results["img"] = functional.rotate(results["img"], angle, v2.InterpolationMode.BILINEAR)
        results["depth"] = functional.rotate(results["depth"], angle)
        return results


@TRANSFORMS.register_module()
class NYUCrop:
    """Crop the frames of NYU to their recorded area: rows 45 to 471 and columns 43 to 607 of 480 x 640.

    Args:
        box: First row, first column, end row and end column (exclusive).
    """

    def __init__(self, box: Sequence[int] = (45, 43, 472, 608)) -> None:
        self.top, self.left, self.bottom, self.right = box

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop both.

        Raises:
            ValueError: The image is smaller than the box.
        """
        height, width = _size(results["img"])
        if height < self.bottom or width < self.right:
            raise ValueError(
                f"{results['img_path']}: NYUCrop.box ends at row {self.bottom} and column {self.right}, but the image "
                f"is {width} x {height}; use it on frames of 640 x 480, before any resizing, or give another box"
            )
        rows, columns = self.bottom - self.top, self.right - self.left
        return _on_both(results, lambda image: functional.crop(image, self.top, self.left, rows, columns))


@TRANSFORMS.register_module()
class ResizeImage:
    """Resize only the image and keep its aspect ratio, for testing; the depth map keeps the size of evaluation.

    Args:
        scale: Upper limits of the longer and the shorter side: ``(2044, 518)`` resizes 640 x 480 to 691 x 518.
        divisor: Round both sides to multiples of this, such as the patch size of the backbone.
        interpolation: A name of torchvision's ``InterpolationMode``.
    """

    def __init__(self, scale: Sequence[int] = (2044, 518), divisor: int = 1, interpolation: str = "bilinear") -> None:
        self.scale = tuple(scale)
        self.divisor = divisor
        self.interpolation = v2.InterpolationMode(interpolation)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img``."""
        sides = fitted_size(*_size(results["img"]), self.scale)
        size = [max(1, round(side / self.divisor)) * self.divisor for side in sides]
        results["img"] = functional.resize(results["img"], size, self.interpolation)
        return results
