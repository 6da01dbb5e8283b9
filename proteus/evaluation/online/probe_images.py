"""A few images that are read once and looked at again and again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.datasets import ConcatProxySet, CorruptImageError, ProxySet, seeded
from proteus.datasets.proxy.collate import as_sample
from proteus.structures import DataError


@dataclass(frozen=True)
class ProbeImages:
    """Images in memory.

    Attributes:
        pixels: ``(N, 3, H, W)``, bytes where these lose nothing, else floats in [0, 1].
        paths: Where each is from; empty where the set does not tell.
        labels: ``(N,)`` int64, where the images are labelled.
        masks: ``(N, P)`` bool, the patches to mask, where anything reads masks.
    """

    pixels: Tensor
    paths: list[str]
    labels: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, positions: Tensor) -> Tensor:
        """Some of the images, ``(B, 3, H, W)`` floats in [0, 1]."""
        return functional.to_dtype(self.pixels[positions], torch.float32, scale=True)


def load_probe_images(
    dataset: Any,
    positions: Sequence[int],
    mask: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    unreadable: Callable[[CorruptImageError], None] | None = None,
) -> ProbeImages:
    """Read some images of a set.

    Args:
        dataset: A proxy set, or any data set whose samples are as :class:`~proteus.datasets.PackInputs` leaves them.
        positions: Which images. What is random in the pipeline depends on the position alone.
        mask: A mask transform, if masks are wanted.
        unreadable: Called for each image that cannot be read, which is then left out; by default the error is raised.

    Returns:
        The images, in the order of the positions.

    Raises:
        CorruptImageError: One cannot be read, or none of them; the message is its path and the reason.
        DataError: The images have different sizes.
    """
    pixels: list[Tensor] = []
    data_samples: list[BaseDataElement] = []
    masks: list[Tensor] = []
    last: CorruptImageError | None = None
    for position in positions:
        with seeded(0, 0, int(position)):
            try:
                sample = as_sample(
                    dataset.read(int(position), 0) if isinstance(dataset, ProxySet) else dataset[int(position)]
                )
            except CorruptImageError as error:
                if unreadable is None:
                    raise
                unreadable(error)
                last = error
                continue
            if mask is not None:
                masks.append(mask({"img": sample["inputs"]})["mask"])
        data_sample = sample["data_samples"]
        if pixels and sample["inputs"].shape != pixels[0].shape:
            sizes = f"{tuple(sample['inputs'].shape[-2:])} after others of {tuple(pixels[0].shape[-2:])}"
            raise DataError(
                f"{data_sample.get('img_path', position)} is {sizes}: end the pipeline's resizing with a crop"
            )
        pixels.append(_as_bytes(sample["inputs"]))
        data_samples.append(data_sample)
    if not pixels:
        raise CorruptImageError(
            f"none of the {len(positions)} images looked at could be read, the last one of them {last}"
            if last
            else "there is no image to look at"
        )
    if len({image.dtype for image in pixels}) > 1:
        pixels = [functional.to_dtype(image, torch.float32, scale=True) for image in pixels]
    return ProbeImages(
        torch.stack(pixels),
        [each.img_path for each in data_samples if "img_path" in each],
        torch.tensor([each.label for each in data_samples]) if all("label" in each for each in data_samples) else None,
        torch.stack(masks) if masks else None,
    )


def _as_bytes(image: Tensor) -> Tensor:
    """A quarter of the memory, where an image came from bytes unchanged."""
    if image.dtype == torch.uint8:
        return image
    small = (image * 255).round().clamp(0, 255).to(torch.uint8)
    return small if torch.equal(functional.to_dtype(small, image.dtype, scale=True), image) else image


def spread(count: int, total: int) -> list[int]:
    """``count`` of ``total`` positions at even distances, or all where there are fewer."""
    return torch.linspace(0, total - 1, min(count, total)).round().long().tolist() if total else []


def number_in(dataset: Any, paths: Sequence[str]) -> int:
    """How many of some files a data set holds, too.

    Args:
        dataset: Only where it is a proxy set of files can it be told; else 0.
        paths: The files.
    """
    if isinstance(dataset, ConcatProxySet):
        return sum(number_in(member, paths) for member in dataset.members.values())
    # One that makes its images (SingleImage) or finds them in archives has no list of files.
    if not isinstance(dataset, ProxySet) or not hasattr(dataset, "data_address"):
        return 0
    root = os.path.abspath(os.path.expanduser(dataset.data_root)) if dataset.data_root else ""
    # A set of a million files need not be gone through for files that lie elsewhere.
    sought = {path for path in map(os.path.abspath, paths) if path.startswith(root)}
    if not sought:
        return 0
    held = (str(ProxySet.get_data_info(dataset, index).get("img_path", "")) for index in range(len(dataset)))
    return len(sought.intersection(map(os.path.abspath, held)))
