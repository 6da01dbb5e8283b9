"""Geometric and photometric changes, by torchvision and timm; sizes in pixels.

Each works on ``results['img']``: a PIL image, except where a tensor is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing as TimmRandomErasing
from torchvision.transforms import v2

from proteus.compat import mend_posterize
from proteus.registry import TRANSFORMS

mend_posterize()


class _OnImage:
    """Apply ``self.transform`` to ``results['img']``."""

    transform: Any

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["img"] = self.transform(results["img"])
        return results


@TRANSFORMS.register_module()
class RandomResizedCrop(_OnImage):
    """Crop a random part of the image and resize it to a square (protocols A.3).

    Args:
        size: Side of the result.
        scale: Range of the crop's area as a share of the image's.
        ratio: Range of the crop's width over its height.
        interpolation: A name of torchvision's ``InterpolationMode``.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ) -> None:
        self.transform = v2.RandomResizedCrop(size, scale, ratio, v2.InterpolationMode(interpolation))


@TRANSFORMS.register_module()
class RandomFlip(_OnImage):
    """Mirror the image left to right.

    Args:
        prob: How often.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.transform = v2.RandomHorizontalFlip(prob)


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


@TRANSFORMS.register_module()
class RandAugment:
    """timm's RandAugment, as DeiT and the released code use it (protocols A.3).

    Args:
        policy: timm's description: magnitude, its standard deviation, and the set of operations.
        mean: Channel means in [0, 1]; what a geometric operation uncovers is painted with them.

    Raises:
        ValueError: timm does not understand ``policy``.
    """

    def __init__(self, policy: str = "rand-m9-mstd0.5-inc1", mean: Sequence[float] = MEAN) -> None:
        try:
            rand_augment_transform(policy, {})
        except (AssertionError, ValueError) as error:
            raise ValueError(
                f"RandAugment.policy={policy!r} is no RandAugment of timm's; write one such as 'rand-m9-mstd0.5-inc1'"
            ) from error
        self.policy = policy
        self.fill = tuple(min(255, round(255 * channel)) for channel in mean)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Apply two random operations; they shift by at most 45 % of the image's shorter side."""
        image = results["img"]
        options = {"translate_const": int(min(image.size) * 0.45), "img_mean": self.fill}
        results["img"] = rand_augment_transform(self.policy, options)(image)
        return results


@TRANSFORMS.register_module()
class RandomErasing:
    """Replace a random rectangle of a tensor image by noise, with timm's RandomErasing (protocols A.3).

    The noise is standard normal *after* normalisation. Images are normalised later, on the device, so it is written
    here as the pixel values that normalise to it.

    Args:
        prob: How often.
        mean: Channel means that the image will be normalised with.
        std: Channel standard deviations, likewise.
    """

    def __init__(
        self,
        prob: float = 0.25,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        self.eraser = TimmRandomErasing(probability=prob, mode="pixel", max_count=1, device="cpu")
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Erase in ``results['img']``, ``(3, H, W)`` float in [0, 1]."""
        image = results["img"]
        noise = self.eraser(torch.zeros_like(image))
        results["img"] = torch.where(noise == 0, image, noise * self.std + self.mean)
        return results
