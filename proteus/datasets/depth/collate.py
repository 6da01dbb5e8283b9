"""From samples with depth maps to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from proteus.datasets.proxy.collate import stack_images
from proteus.registry import FUNCTIONS


@FUNCTIONS.register_module()
def depth_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and depth maps where all have one size.

    Args:
        samples: What ``PackDepth`` gives. A depth map need not have its image's size.

    Returns:
        ``images`` ``(B, 3, H, W)``, or a list of ``(3, H, W)`` where sizes differ; ``depths`` ``(B, H, W)`` in metres,
        0 invalid, or likewise a list; ``data_samples``.
    """
    return {
        "inputs": _stacked([sample["inputs"] for sample in samples]),
        "depths": _stacked([sample["depth"] for sample in samples]),
        "data_samples": [sample["data_samples"] for sample in samples],
    }


def _stacked(tensors: list[Tensor]) -> Tensor | list[Tensor]:
    return stack_images(tensors) if len({tensor.shape for tensor in tensors}) == 1 else tensors
