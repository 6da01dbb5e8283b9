"""Random rectangles of noise: drawn by timm, written by the device or by the worker."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from timm.data.random_erasing import RandomErasing as TimmRandomErasing
from torchvision.transforms.v2 import functional

from proteus.registry import TRANSFORMS
from proteus.utils.argument_checks import check_channels


class Erase(NamedTuple):
    """A rectangle to fill with noise; pixels.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
        seed: What the noise is a function of; 63 bits.
    """

    top: int
    left: int
    height: int
    width: int
    seed: int


@TRANSFORMS.register_module()
class RandomErasing:
    """Replace a random rectangle by noise, as timm's RandomErasing does (docs/reproduction.md#distillation-data).

    The noise is standard normal *after* normalisation. On the device the data preprocessor writes it, after it has
    normalised; here only the rectangle and a seed are drawn, both from the sample's key, and the rectangle is the same
    as without the device. In the worker it is written as the pixel values that normalise to it, which are no bytes.

    Args:
        prob: How often.
        mean: Channel means that the image will be normalised with; without ``on_device``.
        std: Channel standard deviations, likewise.
        on_device: Leave the writing to the data preprocessor, which must be one of Proteus.
    """

    def __init__(
        self,
        prob: float = 0.25,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        on_device: bool = True,
    ) -> None:
        mode = "const" if on_device else "pixel"
        self.eraser = TimmRandomErasing(probability=prob, mode=mode, max_count=1, device="cpu")
        self.mean = torch.tensor(check_channels("RandomErasing.mean", mean)).view(-1, 1, 1)
        self.std = torch.tensor(check_channels("RandomErasing.std", std, positive=True)).view(-1, 1, 1)
        self.on_device = on_device

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Erase in ``results['img']``, ``(3, H, W)``, float or uint8, or say in ``results['erase']`` what to erase.

        Raises:
            TypeError: The image is not a tensor yet.
        """
        image = results["img"]
        if not isinstance(image, torch.Tensor):
            raise TypeError("RandomErasing takes a tensor: put dict(type='ToTensor') before it in the pipeline")
        if self.on_device:
            drawn = self.draw(image.shape[-2], image.shape[-1])
            if drawn is not None:
                results["erase"] = drawn
            return results
        image = functional.to_dtype(image, torch.float32, scale=True)
        noise = self.eraser(torch.zeros_like(image))
        results["img"] = torch.where(noise == 0, image, noise * self.std + self.mean)
        return results

    def draw(self, height: int, width: int) -> Erase | None:
        """Draw what to erase of an image of so many pixels, or None."""
        told = _Told(height, width)
        self.eraser(told)
        return None if told.box is None else Erase(*told.box, seed=random.getrandbits(63))


class _Told:
    """An image that takes down which rectangle timm assigns to, so that timm's own draws say it."""

    dtype = torch.float32

    def __init__(self, height: int, width: int) -> None:
        self.shape = (3, height, width)
        self.box: tuple[int, int, int, int] | None = None

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, where: tuple[slice, slice, slice], noise: torch.Tensor) -> None:
        rows, columns = where[1:]
        self.box = rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
