"""Batches of images: moved to the device, normalised, and erased where a box was drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.registry import MODELS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_channels


@MODELS.register_module()
class DistillDataPreprocessor(BaseDataPreprocessor):
    """Move a batch to the model's device, normalise its images for the student, and fill the erased boxes with noise.

    The teacher normalises them again only if its own statistics differ.

    Args:
        mean: Channel means for images in [0, 1].
        std: Channel standard deviations for images in [0, 1].

    Attributes:
        channel_mean: ``mean``, as numbers.
        channel_std: ``std``, as numbers.
    """

    collate = "distill_collate"
    input_types: tuple[type, ...] = (Tensor,)

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> None:
        super().__init__(non_blocking=True)
        self.channel_mean = check_channels("mean", mean)
        self.channel_std = check_channels("std", std, positive=True)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch of :func:`~proteus.datasets.distill_collate`.

        Args:
            data: ``inputs`` ``(B, 3, H, W)``, uint8, or float in [0, 1]; ``erase``, the boxes to fill with noise after
                normalisation. Other entries only move to the device.
            training: Not used; MMEngine passes it.

        Raises:
            DataError: The batch has no ``inputs``.
        """
        self.check_batch(data)
        data = self.to_device(data)
        boxes = data.pop("erase", ())
        return {**data, "inputs": fill_with_noise(self.normalised(data["inputs"]), boxes)}

    def to_device(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Move the tensors of a batch; ``data_samples`` hold none, and MMEngine would copy them one by one."""
        return {key: value if key == "data_samples" else self.cast_data(value) for key, value in data.items()}

    def check_batch(self, data: Any) -> None:
        """Check that a batch was made by our collate function, not by MMEngine's default one.

        Raises:
            DataError: The batch has no ``inputs``; the message names the collate function that makes them.
        """
        if isinstance(data, Mapping) and isinstance(data.get("inputs"), self.input_types):
            return
        keys = f"a dict with the keys {', '.join(map(str, data))}" if isinstance(data, Mapping) else type(data).__name__
        raise DataError(
            f"a batch is {keys}; it needs the key 'inputs', a tensor (B, 3, H, W): write "
            f"collate_fn=dict(type='proteus.{self.collate}') in the dataloader"
        )

    def normalised(self, images: Tensor) -> Tensor:
        """Normalise images ``(..., 3, H, W)``, uint8, or float in [0, 1]."""
        return (as_floats(images) - self.mean) / self.std


def as_floats(images: Tensor) -> Tensor:
    """Convert bytes to floats in [0, 1], exactly as ``ToTensor('float32')`` does; return floats unchanged.

    Raises:
        TypeError: The images are neither bytes nor floats.
    """
    if images.is_floating_point():
        return images
    if images.dtype != torch.uint8:
        raise TypeError(f"images should be uint8, or float in [0, 1]; found {images.dtype}")
    floats: Tensor = functional.to_dtype(images, torch.float32, scale=True)
    return floats


def fill_with_noise(images: Tensor, boxes: Iterable[tuple[int, int, int, int, int, int]]) -> Tensor:
    """Fill rectangles of normalised images with standard normal noise, in place.

    The noise depends on its seed alone, not on the batch or on the state of any generator. On every device it is that
    of the CPU, so that a teacher cache fits on another kind of device than it was built on. It goes to a GPU from
    pinned memory: nothing waits for the GPU.

    Args:
        images: ``(B, 3, H, W)``.
        boxes: Position in the batch, top, left, height, width and seed of each rectangle.

    Returns:
        The images.
    """
    generator, on_gpu = torch.Generator(), images.is_cuda
    for position, top, left, height, width, seed in boxes:
        generator.manual_seed(seed)
        # In separate memory: what a generator writes into a part of an image may depend on its strides.
        noise = torch.empty(images.shape[1], height, width, dtype=images.dtype, pin_memory=on_gpu)
        noise = noise.normal_(generator=generator).to(images.device, non_blocking=on_gpu)
        images[position, :, top : top + height, left : left + width] = noise
    return images
