"""Folders of images and masks, without mmseg, and the patches of their images that go into a memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.logging import print_log
from torch.utils.data import Dataset

from proteus.datasets.segmentation.check_labels import read_mask, unknown_label
from proteus.datasets.segmentation.pairs import IGNORED, check_pairs
from proteus.datasets.segmentation.patch_labels import patch_labels, sample_patches
from proteus.registry import DATASETS, TRANSFORMS
from proteus.structures import DataError
from proteus.utils.files import walk
from proteus.utils.images import EXTENSIONS

_FOLDERS = {"train": ("training", "train"), "val": ("validation", "val", "test")}
_LABELLED_AT_START = 32


@DATASETS.register_module()
class MaskFolders(Dataset):
    """Images and masks of classes with equal names, as in ADE20K: ``images/PART`` and ``annotations/PART``.

    A mask has one channel with the number of a class in each pixel (``docs/dense.md``).

    Args:
        data_root: Folder with ``images`` and ``annotations``.
        split: ``train`` reads the part ``training`` or ``train``; ``val`` reads ``validation``, ``val`` or ``test``:
            the first that exists.
        pipeline: Transforms of an image.
        num_classes: Number of classes; None if it is not known yet (:func:`find_num_classes`).
        reduce_zero_label: Label 0 means no class, and classes count from 1, as in ADE20K.
        ignore_index: Labels to ignore in addition to 255.

    Attributes:
        pairs: Paths of each image and of its mask, in the order of their names.

    Raises:
        DataError: A folder is missing, an image has no mask or a mask no image, or their sizes differ; or one of up to
            32 masks has an unknown label.
    """

    folder = "."
    layout = "images/{train,val} and annotations/{train,val} with images and masks of equal names"

    def __init__(
        self,
        data_root: str,
        split: Literal["train", "val"],
        pipeline: Sequence[Mapping[str, Any]] = (),
        num_classes: int | None = None,
        reduce_zero_label: bool = False,
        ignore_index: int | Sequence[int] = (),
    ) -> None:
        self.data_root, self.split = data_root, split
        self.num_classes, self.shift = num_classes, int(reduce_zero_label)
        self.ignored = [IGNORED, *([ignore_index] if isinstance(ignore_index, int) else ignore_index)]
        self.pipeline = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])
        self.pairs = _find_pairs(Path(data_root), split)
        if num_classes is not None:
            for index in np.unique(np.linspace(0, len(self) - 1, min(_LABELLED_AT_START, len(self))).astype(int)):
                self.labels(int(index))

    @classmethod
    def find(cls, root: Path) -> Path | None:
        """Return None: masks have no usual folder below a folder of many sets."""
        return None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        """Return the sample of an image without its mask.

        Raises:
            CorruptImageError: The image cannot be read.
        """
        return self.pipeline({"img_path": self.pairs[index][0]})

    def labels(self, index: int) -> np.ndarray:
        """Read the classes of an image's pixels, ``(H, W)`` int64; -1 for ignored pixels.

        Raises:
            DataError: The file is not a mask, or has an unknown label; the message names the file.
            CorruptImageError: The file cannot be read.
        """
        path = self.pairs[index][1]
        stored = read_mask(path).astype(np.int64)
        ignored = np.isin(stored, self.ignored) | (stored < self.shift)
        limit = IGNORED if self.num_classes is None else self.num_classes
        wrong = stored[(stored < 0) | (~ignored & (stored >= limit + self.shift))]
        if wrong.size:
            label = int(wrong.max())
            known = unknown_label(path, label, limit, self.shift)
            raise DataError(f"{known}, or ignore label {label} with protocol.ignore_index={label}")
        return np.where(ignored, -1, stored - self.shift)


@DATASETS.register_module()
class PatchMemory(Dataset):
    """The images of a set with the patches that go into a memory, and the labels of these patches.

    Args:
        dataset: A :class:`MaskFolders` with a known number of classes.
        grid: ``(h, w)``, rows and columns of the backbone's patches.
        memory_size: Number of patches, spread evenly over the images; at most all. With fewer patches than images, as
            many images are drawn.
        seed: Seed of the sample. Each image draws from its own generator, so that workers change nothing.

    Attributes:
        chosen: Positions of the images in ``dataset``.
        per_image: Patches per image.
    """

    def __init__(self, dataset: MaskFolders, grid: tuple[int, int], memory_size: int, seed: int = 0) -> None:
        self.dataset, self.grid, self.seed = dataset, grid, seed
        order = np.random.default_rng(seed).permutation(len(dataset))
        self.chosen = np.sort(order[:memory_size])
        self.per_image = min(memory_size // len(self.chosen), grid[0] * grid[1])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, position: int) -> Any:
        """Return an image's sample; ``data_samples`` has ``patch_index`` ``(P,)`` and ``patch_labels`` ``(P, C)``.

        Where the image has fewer than ``P`` labelled patches, the last labels are zero.
        """
        index = int(self.chosen[position])
        classes = self.dataset.num_classes
        assert classes is not None
        labels = patch_labels(self.dataset.labels(index), self.grid, classes)
        kept = sample_patches(labels, self.per_image, np.random.default_rng([self.seed, index]))
        sample = self.dataset[index]
        padding = self.per_image - len(kept)
        sample["data_samples"].patch_index = torch.from_numpy(np.pad(kept, (0, padding)))
        sample["data_samples"].patch_labels = torch.from_numpy(np.pad(labels[kept], ((0, padding), (0, 0))))
        return sample


def find_num_classes(datasets: Sequence[MaskFolders]) -> int:
    """Read all masks and return the largest class plus one.

    Raises:
        DataError: A mask cannot be read, or all pixels are ignored.
    """

    def largest(pair: tuple[MaskFolders, int]) -> int:
        return int(pair[0].labels(pair[1]).max())

    with ThreadPoolExecutor(4) as pool:
        found = max(pool.map(largest, ((dataset, index) for dataset in datasets for index in range(len(dataset)))))
    if found < 0:
        raise DataError(f"{datasets[0].data_root}: every pixel of every mask is ignored; write class numbers from 0")
    return found + 1


def _find_pairs(root: Path, split: str) -> list[tuple[str, str]]:
    if split not in _FOLDERS:
        raise ValueError(f"dataset.split={split!r}: write one of {', '.join(map(repr, _FOLDERS))}")
    names = _FOLDERS[split]
    part = next((name for name in names if (root / "images" / name).is_dir()), names[1])
    images, masks = root / "images" / part, root / "annotations" / part
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"no folder {folder}; expected {MaskFolders.layout}")
    found = {folder: walk(folder, EXTENSIONS) for folder in (images, masks)}
    if not found[images].files:
        raise DataError(f"{images} has no images ({' '.join(EXTENSIONS)}){found[images].hint}")
    for folder, walked in found.items():
        for line in walked.skipped:
            print_log(f"{folder}: {line}", "current")
    by_stem = {name.rpartition(".")[0]: f"{masks}/{name}" for name in found[masks].files}
    pairs = [(f"{images}/{name}", name.rpartition(".")[0]) for name in found[images].files]
    matched = [(image, by_stem.get(stem, f"{masks}/{stem}.png")) for image, stem in pairs]
    check_pairs(matched, list(by_stem.values()))
    return matched
