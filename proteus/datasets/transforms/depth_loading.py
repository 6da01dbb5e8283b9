"""Load depth maps from 16-bit PNGs, and pack samples for the collate function.

Within a pipeline ``results['depth']`` is a torchvision ``Mask``, ``(H, W)`` float32 in metres with 0 for invalid, so
that torchvision transforms it together with the image, by nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor
from torchvision.tv_tensors import Mask

from proteus.registry import TRANSFORMS
from proteus.structures import DataError
from proteus.utils.image_files import opened
from proteus.utils.stored_numbers import check_stored_numbers

# Pillow's modes of a PNG with one 16-bit channel; releases before 10.3 use I.
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_REMEDY = "store millimetres as 16-bit integers in a PNG, with depth_scale=1000"


def read_depth(path: str) -> np.ndarray:
    """Read a depth map with its stored values.

    Args:
        path: A PNG of one 16-bit channel.

    Returns:
        ``(H, W)`` uint16, with 0 for invalid.

    Raises:
        CorruptImageError: The file is missing, not an image, or truncated.
        DataError: The file has another type of pixels, an orientation, or depths beyond 16 bits.
    """
    with opened(path) as image:
        check_depth_mode(path, image)
        stored = np.asarray(image)
    if stored.size and not 0 <= stored.min() <= stored.max() <= np.iinfo(np.uint16).max:
        raise DataError(f"{path}: depths from {stored.min()} to {stored.max()} do not fit in 16 bits: {_REMEDY}")
    return stored.astype(np.uint16)


def check_depth_mode(path: str, image: Image.Image) -> None:
    """Check that the pixels of an opened image can be depths.

    Args:
        path: Path of the file, for the message.
        image: The opened image; only its header is read.

    Raises:
        DataError: The pixels are not single 16-bit numbers, the format changes them, or the image has an orientation.
    """
    if image.mode == "F":
        raise DataError(f"{path}: a depth map of floating-point numbers: {_REMEDY}")
    if image.mode not in _SIXTEEN_BIT:
        raise DataError(
            f"{path}: a depth map is a PNG of one 16-bit channel, but this file has Pillow's mode {image.mode!r} "
            "(8 bits or colours, as in visualizations): give the measured depths"
        )
    check_stored_numbers(path, image, "depth map")


@TRANSFORMS.register_module()
class LoadDepth:
    """Load ``depth_path`` into ``depth`` in metres, using ``depth_scale`` of the set; put it after ``LoadImage``."""

    reads_files: ClassVar[bool] = True

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``depth``, and its size ``(H, W)`` as ``ori_shape``.

        Raises:
            CorruptImageError: The file is missing, truncated or not an image.
            DataError: The file is not a depth map, has another size than the image, or has no valid depth.
        """
        path = results["depth_path"]
        stored = read_depth(path)
        width, height = results["img"].size
        if stored.shape != (height, width):
            raise DataError(
                f"{path} has {stored.shape[1]} x {stored.shape[0]} pixels, but its image {results['img_path']} has "
                f"{width} x {height}: their sizes must be equal (the EXIF orientation of images is applied)"
            )
        if not stored.any():
            raise DataError(f"{path} has no valid depth: every pixel is 0; remove the pair")
        depth = stored.astype(np.float32) / np.float32(results["depth_scale"])
        results["depth"] = Mask(torch.from_numpy(depth))
        results["ori_shape"] = stored.shape
        return results


@TRANSFORMS.register_module()
class PackDepth:
    """Pack the tensor image, its depth map and their file names.

    Args:
        keys: Further keys to copy into the metainfo.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = ("img_path", "depth_path", "ori_shape", *keys)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the image ``inputs`` ``(3, H, W)``, ``depth`` ``(H, W)`` float32 in metres, and ``data_samples``.

        Raises:
            TypeError: The image is not a tensor.
        """
        if not isinstance(results["img"], Tensor):
            raise TypeError("PackDepth takes a tensor: put dict(type='ToTensor') before it in the pipeline")
        return {
            "inputs": results["img"],
            "depth": results["depth"].as_subclass(Tensor).contiguous(),
            "data_samples": BaseDataElement(metainfo={key: results[key] for key in self.keys if key in results}),
        }
