"""The last steps of a pipeline: to tensors, and to a sample of the collate function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from PIL import Image
from torchvision.transforms.v2 import functional

from proteus.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ToTensor:
    """Convert a PIL image or an ``(H, W, 3)`` uint8 array to a tensor ``(3, H, W)``, without normalising it.

    Args:
        dtype: ``uint8``, a quarter of the bytes to copy to the device, or ``float32`` in [0, 1]. The data preprocessor
            makes the same floats of both.

    Raises:
        ValueError: ``dtype`` is another.
    """

    def __init__(self, dtype: Literal["uint8", "float32"] = "uint8") -> None:
        if dtype not in ("uint8", "float32"):
            raise ValueError(f"ToTensor.dtype={dtype!r}: write 'uint8' or 'float32'")
        self.dtype = getattr(torch, dtype)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Convert ``results['img']``.

        Raises:
            TypeError: It is neither a PIL image nor an array of RGB bytes.
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
    """Pack what a batch needs of a sample, under OpenMMLab's names; drop the rest.

    Args:
        keys: Further entries of the data set to keep in the metainfo.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = ("img_path", "label", *keys)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a sample.

        Returns:
            ``inputs``, the image ``(3, H, W)``; ``data_samples``, with metainfo of ``img_path``, ``label`` and
            ``keys`` as far as they are known; and, where the pipeline has made them, ``mask`` ``(N,)`` and ``erase``.
        """
        metainfo = {key: results[key] for key in self.keys if key in results}
        packed = {"inputs": results["img"], "data_samples": BaseDataElement(metainfo=metainfo)}
        packed.update((key, results[key]) for key in ("mask", "erase") if key in results)
        return packed
