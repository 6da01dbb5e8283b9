"""From pixels to what the collate function takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from proteus.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ToTensor:
    """Turn a PIL image or an ``(H, W, 3)`` uint8 array into ``(3, H, W)``; the device normalises it later.

    Args:
        dtype: ``uint8`` keeps the bytes, a quarter of what goes from the workers to the device; the device makes of
            them exactly the floats in [0, 1] that ``float32`` makes here.

    Raises:
        ValueError: ``dtype`` is neither.
    """

    def __init__(self, dtype: Literal["uint8", "float32"] = "uint8") -> None:
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"ToTensor.dtype={dtype!r}: write 'uint8' or 'float32'")
        self.dtype = getattr(torch, dtype)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Convert ``results['img']``.

        Raises:
            TypeError: It is an array, and not one of RGB bytes.
        """
        image = results["img"]
        if isinstance(image, Image.Image):
            tensor = functional.pil_to_tensor(image)
        elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
            tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        else:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"ToTensor takes a PIL image or a uint8 array (H, W, 3); found {found}")
        results["img"] = functional.to_dtype(tensor, self.dtype, scale=True)
        return results


@TRANSFORMS.register_module()
class PackInputs:
    """Keep the tensor image, the box to erase, its mask and label, and where it came from.

    Args:
        keys: What else of the data set's entries goes into ``meta``.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = ("img_path", "label", *keys)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return ``image``, ``meta`` with what there is of ``img_path``, ``label`` and ``keys``, and what there is of
        ``mask`` and ``erase``.
        """
        meta = {key: results[key] for key in self.keys if key in results}
        packed = {"image": results["img"], "meta": meta}
        packed.update((key, results[key]) for key in ("mask", "erase") if key in results)
        return packed
