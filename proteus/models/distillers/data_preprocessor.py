"""Batches of pixels, on the device and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD

from proteus.registry import MODELS


@MODELS.register_module()
class DistillDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the model's device and normalise its images for the student.

    The teacher re-normalises them only if its own statistics differ.

    Args:
        mean: Channel means for images in [0, 1].
        std: Channel standard deviations, likewise.

    Attributes:
        channel_mean: ``mean``, as numbers.
        channel_std: ``std``, as numbers.
    """

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__(non_blocking=True)
        self.channel_mean, self.channel_std = tuple(mean), tuple(std)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise ``data['images']`` ``(B, 3, H, W)``, float in [0, 1]; the rest moves as it is."""
        data = self.cast_data(data)
        return {**data, "images": (data["images"] - self.mean) / self.std}
