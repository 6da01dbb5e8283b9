"""timm's RandAugment, drawn in the worker and left for the device to apply."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data.auto_augment import RandAugment as TimmRandAugment
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.datasets.transforms.rand_augment import check_policy
from proteus.registry import TRANSFORMS

_AFFINE = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel")
_PLAIN = ("AutoContrast", "Equalize", "Invert")
_VALUED = ("Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast", "Brightness", "Sharpness")
_INTERPOLATIONS = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


class Operation(NamedTuple):
    """One change of an image.

    Attributes:
        name: An operation of timm's by its plain name (``Posterize``, not ``PosterizeIncreasing``), or
            ``affine_bilinear`` or ``affine_bicubic`` for all that move pixels.
        values: What it takes. Of an affine one: six numbers a, b, c, d, e, f by which the pixel at (x, y) is read at
            (ax + by + c, dx + ey + f), in pixels from the upper left corner, and the colour of what is uncovered.
    """

    name: str
    values: tuple[float, ...]


@TRANSFORMS.register_module()
class DeviceRandAugment:
    """:class:`~proteus.datasets.RandAugment` with the same draws for the same key, applied by the device.

    It stands where ``RandAugment`` would, after the last crop and flip; the image itself is left as it is. The data
    preprocessor must be one of Proteus, and images must come to it as bytes. Its pixels are those of timm's operations
    on PIL images, but for one level of 255 where fractions are cut off in moving pixels and in AutoContrast.

    Args:
        policy: As for :class:`~proteus.datasets.RandAugment`.
        mean: Likewise.
        interpolation: Likewise.

    Raises:
        ValueError: timm does not understand ``policy``, or it has operations beyond RandAugment's fifteen, or there is
            no such interpolation.
    """

    def __init__(
        self,
        policy: str = "rand-m9-mstd0.5-inc1",
        mean: Sequence[float] = MEAN,
        interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic",
    ) -> None:
        if interpolation not in (*_INTERPOLATIONS.values(), "random"):
            raise ValueError(
                f"DeviceRandAugment.interpolation={interpolation!r}: write 'bicubic' as released, 'bilinear' or "
                "'random'"
            )
        drawn = check_policy("DeviceRandAugment.policy", policy)
        unknown = sorted({op.name for op in drawn.ops if _plain_name(op.name) not in (*_AFFINE, *_PLAIN, *_VALUED)})
        if unknown:
            raise ValueError(
                f"DeviceRandAugment.policy={policy!r}: {', '.join(unknown)} cannot be applied on the device; write "
                "type='RandAugment'"
            )
        self.policy = policy
        self.fill = tuple(min(255, round(255 * channel)) for channel in mean)
        self.resample = next((mode for mode, name in _INTERPOLATIONS.items() if name == interpolation), None)
        self._made: dict[tuple[int, int], TimmRandAugment] = {}

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw for ``results['img']`` into ``results['augment']``."""
        image = results["img"]
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else functional.get_size(image)
        results["augment"] = self.draw(height, width)
        return results

    def draw(self, height: int, width: int) -> list[Operation]:
        """Draw the operations for an image of so many pixels."""
        if (height, width) not in self._made:
            options: dict[str, Any] = {"translate_const": int(min(height, width) * 0.45), "img_mean": self.fill}
            if self.resample is not None:
                options["interpolation"] = self.resample
            made = rand_augment_transform(self.policy, options)
            for op in made.ops:
                # In place of changing an image, each of timm's operations adds to a list what it would have done.
                op.aug_fn = partial(_tell, _plain_name(op.name), height, width)
            self._made[height, width] = made
        drawn: list[Operation] = self._made[height, width]([])
        return drawn


def group_operations(samples: Sequence[Sequence[Operation]]) -> list[tuple[str, Tensor, Tensor]]:
    """Bring together what a batch's images have in common.

    Args:
        samples: For each image, its operations, one after another.

    Returns:
        In the order in which they are to be applied: an operation, the positions ``(n,)`` int64 of the images in the
        batch, and their values ``(n, V)`` float32. First come all images' first operations, then all second ones.
    """
    groups = []
    for number in range(max(map(len, samples), default=0)):
        found: dict[str, tuple[list[int], list[tuple[float, ...]]]] = {}
        for position, operations in enumerate(samples):
            if number < len(operations):
                positions, values = found.setdefault(operations[number].name, ([], []))
                positions.append(position)
                values.append(operations[number].values)
        groups += [(name, torch.tensor(at), torch.tensor(values)) for name, (at, values) in found.items()]
    return groups


def _plain_name(name: str) -> str:
    return name.removesuffix("Increasing").removesuffix("Original")


def _tell(
    name: str,
    height: int,
    width: int,
    told: list[Operation],
    *level: float,
    fillcolor: tuple[int, ...],
    resample: Any,
) -> list[Operation]:
    if name in _AFFINE:
        # Drawn here in timm too, by the operation itself.
        resample = random.choice(resample) if isinstance(resample, (list, tuple)) else resample
        values = (*_matrix(name, level[0], height, width), *fillcolor)
        return [*told, Operation(f"affine_{_INTERPOLATIONS[resample]}", values)]
    if name == "Posterize":
        bits = min(max(int(level[0]), 0), 8)
        return [*told, Operation(name, (256 - 2 ** (8 - bits),))]
    return [*told, Operation(name, tuple(map(float, level)))]


def _matrix(name: str, level: float, height: int, width: int) -> tuple[float, ...]:
    if name.startswith("Shear"):
        return (1, level, 0, 0, 1, 0) if name == "ShearX" else (1, 0, 0, level, 1, 0)
    if name.startswith("Translate"):
        pixels = level * (width if "X" in name else height) if name.endswith("Rel") else level
        return (1, 0, pixels, 0, 1, 0) if "X" in name else (1, 0, 0, 0, 1, pixels)
    # Counter-clockwise about the middle, as PIL turns.
    cos, sin = math.cos(math.radians(level)), math.sin(math.radians(level))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
