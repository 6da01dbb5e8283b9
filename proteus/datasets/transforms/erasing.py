"""Random erasing: the worker draws the rectangle and a seed; the data preprocessor writes the noise on the device."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import torch
from timm.data.random_erasing import RandomErasing as TimmRandomErasing

from proteus.registry import TRANSFORMS


class ErasedBox(NamedTuple):
    """A rectangle to fill with noise, in pixels.

    Attributes:
        top: First row.
        left: First column.
        height: Number of rows.
        width: Number of columns.
        seed: Seed of the noise, 63 bits.
    """

    top: int
    left: int
    height: int
    width: int
    seed: int


@TRANSFORMS.register_module()
class RandomErasing:
    """Replace a random rectangle with noise, as timm's RandomErasing does (docs/reproduction.md#distillation-data).

    The noise is standard normal *after* normalisation, so the data preprocessor writes it
    (:func:`~proteus.models.distillers.data_preprocessor.fill_with_noise`). This transform draws the rectangle and the
    seed of the noise from the sample's random numbers.

    Args:
        erase_prob: Probability of erasing.
    """

    def __init__(self, erase_prob: float = 0.25) -> None:
        self.eraser = TimmRandomErasing(probability=erase_prob, mode="const", max_count=1, device="cpu")

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``erase``, an :class:`ErasedBox` of ``results['img']`` ``(3, H, W)``, where one is drawn.

        Raises:
            TypeError: The image is not a tensor yet.
        """
        image = results["img"]
        if not isinstance(image, torch.Tensor):
            raise TypeError("RandomErasing takes a tensor: put dict(type='ToTensor') before it in the pipeline")
        box = self.draw(image.shape[-2], image.shape[-1])
        if box is not None:
            results["erase"] = box
        return results

    def draw(self, height: int, width: int) -> ErasedBox | None:
        """Draw the rectangle to erase of an image of ``height`` x ``width`` pixels; None leaves the image as it is."""
        recorder = _AssignmentRecorder(height, width)
        self.eraser(recorder)
        return None if recorder.box is None else ErasedBox(*recorder.box, seed=random.getrandbits(63))


class _AssignmentRecorder:
    """Stands in for the image of timm's eraser, and records the rectangle that timm assigns to."""

    dtype = torch.float32

    def __init__(self, height: int, width: int) -> None:
        self.shape = (3, height, width)
        self.box: tuple[int, int, int, int] | None = None

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, where: tuple[slice, slice, slice], noise: torch.Tensor) -> None:
        rows, columns = where[1:]
        self.box = rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
