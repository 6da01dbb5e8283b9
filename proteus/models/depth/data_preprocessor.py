"""Batches of images with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from proteus.models.distillers import DistillDataPreprocessor
from proteus.registry import MODELS


@MODELS.register_module()
class DepthDataPreprocessor(DistillDataPreprocessor):
    """Move a batch to the model's device and normalise its images, which may be of several sizes.

    Args:
        mean: Channel means for images in [0, 1]. The released depth recipe has 0.5 (127.5 of 255) whatever the
            backbone was trained with (docs/reproduction.md#nyu-depth-v2).
        std: Channel standard deviations, likewise.
    """

    collate = "depth_collate"
    input_types = (Tensor, list)

    def __init__(self, mean: Sequence[float] = (0.5,) * 3, std: Sequence[float] = (0.5,) * 3) -> None:
        super().__init__(mean, std)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise ``data['inputs']``, ``(B, 3, H, W)`` or a list of ``(3, H, W)``, uint8, or float in [0, 1]."""
        self.check_batch(data)
        if isinstance(data["inputs"], Tensor):
            return super().forward(data, training)
        data = self.to_device(data)
        return {**data, "inputs": [self.normalised(image) for image in data["inputs"]]}
