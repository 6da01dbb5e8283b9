"""Photometric transforms of images with depth maps; the depth map is not changed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CutDepth:
    """Paint a vertical stripe of the depth map over the image (Ishii and Yamashita, 2021).

    The stripe starts at a random column and takes up to three quarters of the width to its right. Invalid depth becomes
    black. See docs/reproduction.md#nyu-depth-v2.

    Args:
        prob: Probability of the transform.
        max_width: Largest width of the stripe as a fraction of the width to its right.
        max_depth: Depth in metres from which pixels are white.
        wrap: Paint millimetres modulo 256, as the released code does by writing 16-bit numbers into 8-bit pixels: the
            brightness starts again at black every 256 mm and no longer orders depths.
    """

    def __init__(
        self, prob: float = 0.25, max_width: float = 0.75, max_depth: float = 10.0, wrap: bool = False
    ) -> None:
        self.prob, self.max_width, self.max_depth, self.wrap = prob, max_width, max_depth, wrap

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint on the PIL image, which must have the size of the depth map."""
        if np.random.random() > self.prob:
            return results
        pixels = np.array(results["img"])
        width = pixels.shape[1]
        left = int(width * np.random.random())
        right = left + int(max(1, (width - left) * self.max_width * np.random.random()))
        metres = results["depth"][:, left:right].as_subclass(Tensor).numpy()
        if self.wrap:
            grey = np.rint(metres * 1000).astype(np.int64) % 256
        else:
            grey = np.rint(np.minimum(metres / self.max_depth, 1) * 255)
        pixels[:, left:right] = grey.astype(np.uint8)[..., None]
        results["img"] = Image.fromarray(pixels)
        return results


@TRANSFORMS.register_module()
class RandomBrightnessContrast:
    """Scale and shift pixel values as Albumentations does (docs/reproduction.md#nyu-depth-v2).

    Args:
        prob: Probability of the transform.
        brightness: Largest shift, as a fraction of the full range, in both directions.
        contrast: Largest deviation of the scale from 1.
    """

    def __init__(self, prob: float = 0.5, brightness: float = 0.2, contrast: float = 0.2) -> None:
        self.prob, self.brightness, self.contrast = prob, brightness, contrast

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, a PIL image."""
        if random.random() >= self.prob:
            return results
        scale = 1 + random.uniform(-self.contrast, self.contrast)
        shift = random.uniform(-self.brightness, self.brightness) * 255
        table = np.clip(np.arange(256) * scale + shift, 0, 255).astype(np.uint8)
        results["img"] = results["img"].point([*table.tolist()] * 3)
        return results


@TRANSFORMS.register_module()
class RandomGamma:
    """Raise pixel values in [0, 1] to a random power.

    Args:
        prob: Probability of the transform.
        limits: Range of the power.
    """

    def __init__(self, prob: float = 0.5, limits: Sequence[float] = (0.8, 1.2)) -> None:
        self.prob = prob
        self.low, self.high = limits

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, a PIL image."""
        if random.random() < self.prob:
            results["img"] = functional.adjust_gamma(results["img"], random.uniform(self.low, self.high))
        return results


@TRANSFORMS.register_module()
class HueSaturationValue:
    """Shift hue, saturation and value as Albumentations does (docs/reproduction.md#nyu-depth-v2).

    Args:
        prob: Probability of the transform.
        hue: Largest shift in degrees. Albumentations' default of 20 is in OpenCV's steps of two degrees.
        saturation: Largest shift, of 255.
        value: Largest shift, of 255.
    """

    def __init__(self, prob: float = 0.5, hue: float = 40.0, saturation: float = 30.0, value: float = 20.0) -> None:
        self.prob, self.hue, self.saturation, self.value = prob, hue, saturation, value

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, a PIL image."""
        if random.random() >= self.prob:
            return results
        hue, saturation, value = (
            random.uniform(-limit, limit) for limit in (self.hue / 2, self.saturation, self.value)
        )
        levels = np.arange(256)
        tables = ((levels + hue) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255))
        hsv = cv2.cvtColor(np.array(results["img"]), cv2.COLOR_RGB2HSV)
        changed = cv2.LUT(hsv, np.stack(tables, -1).astype(np.uint8)[None])
        results["img"] = Image.fromarray(cv2.cvtColor(changed, cv2.COLOR_HSV2RGB))
        return results


@TRANSFORMS.register_module()
class ColorAug:
    """Change gamma, brightness and colour balance as BTS and the Monocular-Depth-Estimation-Toolbox do.

    Put it after ``ToTensor``. The output is float, since its values do not fit into bytes.

    Args:
        prob: Probability of the transform.
        gamma_range: Range of the power.
        brightness_range: Range of the factor of all channels.
        color_range: Range of the factor of each channel.
        raw_gamma: Apply the power to values in [0, 255], as the toolbox does: 0.9 darkens white to 147, and 1.1
            saturates values above 154. BTS, the origin of the transform, applies it to values in [0, 1].
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma_range: Sequence[float] = (0.9, 1.1),
        brightness_range: Sequence[float] = (0.75, 1.25),
        color_range: Sequence[float] = (0.9, 1.1),
        raw_gamma: bool = False,
    ) -> None:
        self.prob = prob
        self.gamma_range, self.brightness_range, self.color_range = gamma_range, brightness_range, color_range
        self.full = 255.0 if raw_gamma else 1.0

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, ``(3, H, W)`` uint8, or float in [0, 1].

        Raises:
            TypeError: The image is not a tensor.
        """
        if not isinstance(results["img"], Tensor):
            raise TypeError("ColorAug takes a tensor: put dict(type='ToTensor') before it in the pipeline")
        results["img"] = functional.to_dtype(results["img"], torch.float32, scale=True)
        if random.random() < self.prob:
            power, brightness = random.uniform(*self.gamma_range), random.uniform(*self.brightness_range)
            colours = torch.tensor([random.uniform(*self.color_range) for _ in range(3)]).view(3, 1, 1)
            changed = (results["img"] * self.full) ** power * brightness * colours
            results["img"] = (changed / self.full).clamp_(0, 1)
        return results
