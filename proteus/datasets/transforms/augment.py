"""Geometric and photometric changes, by torchvision; sizes in pixels.

Each works on ``results['img']``, a PIL image; the random ones also on an ``(H, W, 3)`` uint8 array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from proteus.datasets.transforms.crops import INTERPOLATIONS, Box, check_interpolation, crop_and_resize
from proteus.registry import TRANSFORMS


class _OnImage:
    """Apply ``self.transform`` to ``results['img']``."""

    transform: Any

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = self.transform(results["img"])
        return results


@TRANSFORMS.register_module()
class RandomResizedCrop:
    """Crop a random part of the image and resize it to a square (docs/reproduction.md#distillation-data).

    The box is drawn and a PIL image is cut and resized exactly as torchvision does it; an array stays an array
    (:func:`~proteus.datasets.transforms.crops.crop_and_resize`).

    Args:
        size: Side of the result.
        scale: Range of the crop's area as a share of the image's.
        ratio: Range of the crop's width over its height.
        interpolation: A name of torchvision's ``InterpolationMode``.

    Raises:
        ValueError: There is no such interpolation.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ) -> None:
        check_interpolation(type(self).__name__, interpolation)
        self.size = size
        self.box = Box(size, scale, ratio)
        self.interpolation = interpolation

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw a box and put what is in it, ``size`` pixels a side, in ``img``."""
        image = results["img"]
        if isinstance(image, np.ndarray):
            box = self.box.draw(*image.shape[:2])
            results["img"] = crop_and_resize(image, box, self.size, self.interpolation)
        else:
            box = self.box.draw(image.height, image.width)
            results["img"] = image.crop(box).resize((self.size, self.size), INTERPOLATIONS[self.interpolation])
        return results


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror the image, PIL or array, left to right.

    Args:
        prob: How often.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror ``img``, or not; drawn as torchvision draws it."""
        if torch.rand(1) >= self.prob:
            return results
        image = results["img"]
        if isinstance(image, np.ndarray):
            results["img"] = cv2.flip(image, 1)
        else:
            results["img"] = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return results


@TRANSFORMS.register_module()
class Resize(_OnImage):
    """Resize the shorter side.

    Args:
        size: Its new length.
        interpolation: A name of torchvision's ``InterpolationMode``.
    """

    def __init__(self, size: int, interpolation: str = "bicubic") -> None:
        self.transform = v2.Resize(size, v2.InterpolationMode(interpolation))


@TRANSFORMS.register_module()
class CenterCrop(_OnImage):
    """Cut out the middle square.

    Args:
        size: Its side.
    """

    def __init__(self, size: int) -> None:
        self.transform = v2.CenterCrop(size)
