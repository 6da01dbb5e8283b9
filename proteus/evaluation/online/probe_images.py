"""Online evaluation: images that are read once and kept in memory."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.datasets import (
    ConcatProxySet,
    CorruptImageError,
    FixedViews,
    ImageFolder,
    LabelledFolder,
    ProxySet,
    seeded,
)
from proteus.datasets.proxy.collate import as_sample
from proteus.structures import DataError
from proteus.utils.files import no_folder

# WordNet ids, the names of ImageNet's folders.
_WORDNET = re.compile(r"n\d{8}$")


@dataclass(frozen=True)
class ProbeImages:
    """Images in memory.

    Attributes:
        pixels: ``(N, 3, H, W)``, bytes if these are exact, else floats in [0, 1].
        paths: File of each image; empty if the data set does not provide it.
        labels: ``(N,)`` int64, if the images are labelled.
        masks: ``(N, P)`` bool, the patches to mask, if masks are used.
    """

    pixels: Tensor
    paths: list[str]
    labels: Tensor | None = None
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Tensor) -> Tensor:
        """Return some of the images, ``(B, 3, H, W)`` floats in [0, 1]."""
        return functional.to_dtype(self.pixels[indices], torch.float32, scale=True)


def load_probe_images(
    dataset: Any,
    indices: Sequence[int],
    mask: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    on_unreadable: Callable[[CorruptImageError], None] | None = None,
) -> ProbeImages:
    """Read some images of a data set.

    Args:
        dataset: A proxy set, or any data set with samples like those of :class:`~proteus.datasets.PackInputs`.
        indices: Which images. Random transforms depend on the index only.
        mask: Mask transform, if masks are needed.
        on_unreadable: Called for each image that cannot be read, which is then skipped, also if the data set has put
            another in its place; by default the error is raised.

    Returns:
        The images, in the order of the indices.

    Raises:
        CorruptImageError: An image cannot be read, or none of them; the message is its path and the reason.
        DataError: The images have different sizes.
    """
    if isinstance(dataset, FixedViews):
        dataset = dataset.dataset
    pixels: list[Tensor] = []
    data_samples: list[BaseDataElement] = []
    masks: list[Tensor] = []
    last: CorruptImageError | None = None
    for index in indices:
        with seeded(0, 0, int(index)):
            try:
                sample = as_sample(
                    dataset.read(int(index), 0) if isinstance(dataset, ProxySet) else dataset[int(index)]
                )
                replaced = sample["data_samples"].get("corrupt")
                if isinstance(replaced, list) and replaced:  # by a proxy set in someone else's set
                    raise CorruptImageError(replaced[0])
            except CorruptImageError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
                last = error
                continue
            if mask is not None:
                masks.append(mask({"img": sample["inputs"]})["mask"])
        data_sample = sample["data_samples"]
        if pixels and sample["inputs"].shape != pixels[0].shape:
            sizes = f"{tuple(sample['inputs'].shape[-2:])} after others of {tuple(pixels[0].shape[-2:])}"
            raise DataError(f"{data_sample.get('img_path', index)} is {sizes}: end the pipeline's resizing with a crop")
        pixels.append(_as_bytes(sample["inputs"]))
        data_samples.append(data_sample)
    if not pixels:
        raise CorruptImageError(
            f"none of the {len(indices)} images could be read; the last error: {last}"
            if last
            else "the data set has no images"
        )
    if len({image.dtype for image in pixels}) > 1:
        pixels = [functional.to_dtype(image, torch.float32, scale=True) for image in pixels]
    return ProbeImages(
        torch.stack(pixels),
        [each.img_path for each in data_samples if "img_path" in each],
        torch.tensor([each.label for each in data_samples]) if all("label" in each for each in data_samples) else None,
        torch.stack(masks) if masks else None,
    )


@dataclass(frozen=True)
class LabelledImages:
    """Settings of the small labelled set for k-NN.

    Attributes:
        data_root: A folder with a folder of images for each class. None uses the validation set's folder if its folders
            are classes: it is a ``LabelledFolder``, or has ImageNet's folder names (``n01440764``).
        classes: Largest number of classes, evenly spaced among all.
        images_per_class: Largest number of images per class.
        ks: Numbers of neighbours.
    """

    data_root: str | None = None
    classes: int = 100
    images_per_class: int = 20
    ks: Sequence[int] = (10, 20)

    def __post_init__(self) -> None:
        if self.classes < 2 or self.images_per_class < 2:
            raise ValueError(
                f"knn.classes={self.classes}, knn.images_per_class={self.images_per_class}: write at least 2 of each"
            )
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"knn.ks={tuple(self.ks)}: write numbers of neighbours, such as (10, 20)")

    def find_folder(self, validation: Any) -> str | None:
        """Return the folder of the images, or None if nothing provides one.

        Args:
            validation: The validation set, if there is one.

        Raises:
            FileNotFoundError: ``data_root`` does not exist.
        """
        if self.data_root is not None:
            if not Path(self.data_root).expanduser().is_dir():
                raise FileNotFoundError(
                    f"default_hooks.online_eval.knn.data_root: {no_folder(self.data_root)}; set a folder with a folder "
                    "of images per class, or write default_hooks.online_eval.knn=None"
                )
            return self.data_root
        return str(validation.data_root) if _has_class_folders(validation) else None

    def load(self, folder: str, pipeline: Compose) -> ProbeImages:
        """Read the images.

        Raises:
            CorruptImageError: An image cannot be read; the message is its path and the reason.
            ValueError: An image is outside the class folders, or fewer than two classes have two images.
        """
        dataset = LabelledFolder(data_root=folder)
        dataset.set_default_pipeline(pipeline)
        members: dict[int, list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            members[ProxySet.get_data_info(dataset, index)["label"]].append(index)
        # With one image left out, the only image of a class could never be classified correctly.
        usable = [indices for _, indices in sorted(members.items()) if len(indices) > 1]
        if len(usable) < 2:
            raise ValueError(f"{folder} has {len(usable)} classes of two images or more; two classes are needed")
        chosen = [usable[number] for number in evenly_spaced_indices(self.classes, len(usable))]
        return load_probe_images(
            dataset, [one[at] for one in chosen for at in evenly_spaced_indices(self.images_per_class, len(one))]
        )


def evenly_spaced_indices(count: int, total: int) -> list[int]:
    """Return ``count`` evenly spaced indices below ``total``, or all of them if there are fewer."""
    return torch.linspace(0, total - 1, min(count, total)).round().long().tolist() if total else []


def count_shared_files(dataset: Any, paths: Sequence[str]) -> int:
    """Count how many of the given files a data set also has.

    Args:
        dataset: A proxy set of files; the count is 0 for any other.
        paths: The files.
    """
    if isinstance(dataset, FixedViews):
        dataset = dataset.dataset
    if isinstance(dataset, ConcatProxySet):
        return sum(count_shared_files(member, paths) for member in dataset.members.values())
    # A set that makes its images (SingleImage) or reads them from archives has no list of files.
    if not isinstance(dataset, ProxySet) or not hasattr(dataset, "data_address"):
        return 0
    root = os.path.abspath(os.path.expanduser(dataset.data_root)) if dataset.data_root else ""
    # Skip the loop over a million files if none of the paths is in the set's folder.
    sought = {path for path in map(os.path.abspath, paths) if path.startswith(root)}
    if not sought:
        return 0
    files = (str(ProxySet.get_data_info(dataset, index).get("img_path", "")) for index in range(len(dataset)))
    return len(sought.intersection(map(os.path.abspath, files)))


def _as_bytes(image: Tensor) -> Tensor:
    """Convert an image that came from bytes unchanged back to bytes, a quarter of the memory."""
    if image.dtype == torch.uint8:
        return image
    small = (image * 255).round().clamp(0, 255).to(torch.uint8)
    return small if torch.equal(functional.to_dtype(small, image.dtype, scale=True), image) else image


def _has_class_folders(dataset: Any) -> bool:
    if isinstance(dataset, LabelledFolder):
        return True
    if not isinstance(dataset, ImageFolder) or not len(dataset):
        return False
    indices = evenly_spaced_indices(50, len(dataset))
    names = (dataset.name_of(ProxySet.get_data_info(dataset, index)) for index in indices)
    return all(_WORDNET.match(Path(name).parts[0]) for name in names)
