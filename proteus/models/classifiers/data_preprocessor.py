"""Batches of images or of tokens."""

from __future__ import annotations

from typing import Any

from proteus.models.distillers import DistillDataPreprocessor
from proteus.registry import MODELS


@MODELS.register_module()
class ProbeDataPreprocessor(DistillDataPreprocessor):
    """Move a batch to the model's device and normalise its images, where it has images rather than tokens.

    Args:
        **statistics: ``mean`` and ``std``, as for :class:`DistillDataPreprocessor`.
    """

    def __init__(self, **statistics: Any) -> None:
        super().__init__(**statistics)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise ``data['inputs']`` ``(B, 3, H, W)``, uint8, or float in [0, 1]; tokens stay as they are."""
        return super().forward(data, training) if "inputs" in data else self.to_device(data)
