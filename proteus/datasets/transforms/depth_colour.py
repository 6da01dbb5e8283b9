"""Changes of the pixels of an image that has a depth map, which stays as it is."""

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
    """Paint an upright stripe of the depth map over the image (Ishii and Yamashita, 2021).

    The stripe begins anywhere and has up to three quarters of the width that is left. What is invalid becomes black.
    See docs/reproduction.md#nyu-depth-v2.

    Args:
        prob: How often.
        most: Largest share of the width that is left.
        max_depth: The depth in metres that becomes white; what is farther too.
        wrap: Paint millimetres modulo 256 instead, as the released code does, which writes 16-bit numbers into 8-bit
            pixels: every 256 mm the stripe begins again at black, so that its brightness no longer orders depths.
    """

    def __init__(self, prob: float = 0.25, most: float = 0.75, max_depth: float = 10.0, wrap: bool = False) -> None:
        self.prob, self.most, self.max_depth, self.wrap = prob, most, max_depth, wrap

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint on the PIL image; the depth map must have its size."""
        if np.random.random() > self.prob:
            return results
        pixels = np.array(results["img"])
        width = pixels.shape[1]
        left = int(width * np.random.random())
        right = left + int(max(1, (width - left) * self.most * np.random.random()))
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
    """Scale and shift pixels, as Albumentations' transform of that name (docs/reproduction.md#nyu-depth-v2).

    Args:
        prob: How often.
        brightness: Shift by at most so much of the full range, up or down.
        contrast: Scale by at most so much above or below 1.
    """

    def __init__(self, prob: float = 0.5, brightness: float = 0.2, contrast: float = 0.2) -> None:
        self.prob, self.brightness, self.contrast = prob, brightness, contrast

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the PIL image."""
        if random.random() >= self.prob:
            return results
        scale = 1 + random.uniform(-self.contrast, self.contrast)
        shift = random.uniform(-self.brightness, self.brightness) * 255
        table = np.clip(np.arange(256) * scale + shift, 0, 255).astype(np.uint8)
        results["img"] = results["img"].point([*table.tolist()] * 3)
        return results


@TRANSFORMS.register_module()
class RandomGamma:
    """Raise pixels in [0, 1] to a power.

    Args:
        prob: How often.
        limits: From where the power is drawn.
    """

    def __init__(self, prob: float = 0.5, limits: Sequence[float] = (0.8, 1.2)) -> None:
        self.prob = prob
        self.low, self.high = limits

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the PIL image."""
        if random.random() < self.prob:
            results["img"] = functional.adjust_gamma(results["img"], random.uniform(self.low, self.high))
        return results


@TRANSFORMS.register_module()
class HueSaturationValue:
    """Shift hue, saturation and value, as Albumentations' transform of that name (docs/reproduction.md#nyu-depth-v2).

    Args:
        prob: How often.
        hue: By at most so many degrees; Albumentations' 20 counts in OpenCV's steps of two degrees.
        saturation: By at most so many of 255.
        value: By at most so many of 255.
    """

    def __init__(self, prob: float = 0.5, hue: float = 40.0, saturation: float = 30.0, value: float = 20.0) -> None:
        self.prob, self.hue, self.saturation, self.value = prob, hue, saturation, value

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the PIL image."""
        if random.random() >= self.prob:
            return results
        hue, saturation, value = (random.uniform(-most, most) for most in (self.hue / 2, self.saturation, self.value))
        levels = np.arange(256)
        tables = ((levels + hue) % 180, np.clip(levels + saturation, 0, 255), np.clip(levels + value, 0, 255))
        hsv = cv2.cvtColor(np.array(results["img"]), cv2.COLOR_RGB2HSV)
        changed = cv2.LUT(hsv, np.stack(tables, -1).astype(np.uint8)[None])
        results["img"] = Image.fromarray(cv2.cvtColor(changed, cv2.COLOR_HSV2RGB))
        return results


@TRANSFORMS.register_module()
class ColorAug:
    """Gamma, brightness and the balance of colours, as BTS and the Monocular-Depth-Estimation-Toolbox change them.

    It comes after ``ToTensor`` and gives floats, since the result is no bytes.

    Args:
        prob: How often.
        gamma_range: From where the power is drawn.
        brightness_range: From where the factor of all channels is drawn.
        color_range: From where a factor of each channel is drawn.
        raw_gamma: Take the power of pixels in [0, 255], as the toolbox's code does, which at 0.9 darkens white to 147
            and at 1.1 saturates what is over 154; BTS, from which it comes, takes it of pixels in [0, 1].
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
        """Change ``results['img']``, ``(3, H, W)`` uint8, or float in [0, 1].

        Raises:
            TypeError: The image is not a tensor yet.
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
