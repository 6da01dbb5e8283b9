"""From pixels to what the collate function takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms.v2 import functional

from proteus.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ToTensor:
    """Turn the PIL image into ``(3, H, W)`` float in [0, 1]; the device normalises it later."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Convert ``results['img']``."""
        results["img"] = functional.to_dtype(functional.pil_to_tensor(results["img"]), torch.float32, scale=True)
        return results


@TRANSFORMS.register_module()
class PackInputs:
    """Keep the tensor image, its mask and its label if it has them, and where it came from.

    Args:
        keys: What else of the data set's entries goes into ``meta``.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = ("img_path", "label", *keys)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return ``image``, ``meta`` with what there is of ``img_path``, ``label`` and ``keys``, and any ``mask``."""
        meta = {key: results[key] for key in self.keys if key in results}
        packed = {"image": results["img"], "meta": meta}
        if "mask" in results:
            packed["mask"] = results["mask"]
        return packed
