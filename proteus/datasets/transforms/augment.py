"""Crops, flips and resizing with torchvision; sizes are in pixels.

Each transform takes a PIL image in ``results['img']``; the random ones also take an ``(H, W, 3)`` uint8 array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from proteus.datasets.seeding import wanted_size
from proteus.datasets.transforms.crops import (
    INTERPOLATIONS,
    CropBox,
    SizedTransform,
    check_interpolation,
    crop_and_resize,
)
from proteus.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomResizedCrop(SizedTransform):
    """Crop a random part of the image and resize it, by default to a square (docs/reproduction.md#distillation-data).

    The arguments are mmpretrain's. Boxes are drawn, and PIL images cropped and resized, exactly as in torchvision; an
    array stays an array (:func:`~proteus.datasets.transforms.crops.crop_and_resize`).

    Args:
        scale: Side of the output.
        crop_ratio_range: Range of the crop's area as a fraction of the image's area.
        aspect_ratio_range: Range of the crop's width divided by its height.
        interpolation: ``nearest``, ``box``, ``bilinear``, ``hamming``, ``bicubic`` or ``lanczos``.

    Raises:
        ValueError: The interpolation is unknown.
    """

    size_argument = "scale"
    follows_schedule = True

    def __init__(
        self,
        scale: int,
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ) -> None:
        check_interpolation(type(self).__name__, interpolation)
        self.scale = scale
        self.box = CropBox(scale, crop_ratio_range, aspect_ratio_range)
        self.interpolation = interpolation

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``img`` by a random crop of it: ``scale x scale`` pixels, or the scheduled size."""
        image, size = results["img"], wanted_size(self.scale)
        stretch = size[1] / size[0]
        if isinstance(image, np.ndarray):
            box = self.box.draw(image.shape[0], image.shape[1], stretch)
            results["img"] = crop_and_resize(image, box, size, self.interpolation)
        else:
            box = self.box.draw(image.height, image.width, stretch)
            results["img"] = image.crop(box).resize(size[::-1], INTERPOLATIONS[self.interpolation])
        return results


@TRANSFORMS.register_module()
class RandomFlip:
    """Flip a PIL image or an array horizontally.

    Args:
        prob: Probability of a flip.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Flip ``img`` or leave it; the draw is torchvision's."""
        if torch.rand(1) >= self.prob:
            return results
        image = results["img"]
        if isinstance(image, np.ndarray):
            results["img"] = cv2.flip(image, 1)
        else:
            results["img"] = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return results


@TRANSFORMS.register_module()
class ResizeEdge(SizedTransform):
    """Resize the image so that one of its edges gets a given length; the aspect ratio is kept.

    The arguments are mmpretrain's.

    Args:
        scale: New length of the edge.
        edge: ``short`` or ``long``: the shorter or the longer edge.
        interpolation: A name of torchvision's ``InterpolationMode``.

    Raises:
        ValueError: The edge or the interpolation is unknown.
    """

    size_argument = "scale"
    gives_square = False

    def __init__(self, scale: int, edge: Literal["short", "long"] = "short", interpolation: str = "bicubic") -> None:
        if edge not in ("short", "long"):
            raise ValueError(f"ResizeEdge.edge={edge!r}: write 'short' or 'long'")
        mode = v2.InterpolationMode(interpolation)
        self.resize = v2.Resize(scale, mode) if edge == "short" else v2.Resize(None, mode, max_size=scale)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img``."""
        results["img"] = self.resize(results["img"])
        return results


@TRANSFORMS.register_module()
class ResizeSquare(SizedTransform):
    """Resize the whole image to a square, whatever its aspect ratio.

    Args:
        scale: Side of the square.
        interpolation: A name of torchvision's ``InterpolationMode``.

    Raises:
        ValueError: The interpolation is unknown.
    """

    size_argument = "scale"

    def __init__(self, scale: int, interpolation: str = "bilinear") -> None:
        self.resize = v2.Resize((scale, scale), v2.InterpolationMode(interpolation))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img``."""
        results["img"] = self.resize(results["img"])
        return results


@TRANSFORMS.register_module()
class CenterCrop(SizedTransform):
    """Crop a square at the center of the image, padding smaller images with black.

    Args:
        crop_size: Side of the square.
    """

    size_argument = "crop_size"

    def __init__(self, crop_size: int) -> None:
        self.crop = v2.CenterCrop(crop_size)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop ``img``."""
        results["img"] = self.crop(results["img"])
        return results
