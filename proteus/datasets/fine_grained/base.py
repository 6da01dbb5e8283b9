"""Base class of labelled sets with the splits of the fine-grained protocol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, get_args

import numpy as np

from proteus.datasets.fine_grained.listing import Listed, images_outside, missing_images
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, seeded
from proteus.utils.files import no_folder

Part = Literal["train", "val", "test"]
Split = Literal["train", "val", "trainval", "test"]
Metric = Literal["mean_per_class", "top1", "map11"]


class FineGrainedSet(ProxySet):
    """Labelled set in the layout of its official archive (docs/reproduction.md#fine-grained-classification).

    Samples have a ``label``. ``trainval`` joins ``train`` and ``val``. A set without an official validation split uses
    a random fifth of its training images: the first ``floor(0.2 n)`` of a NumPy permutation with seed 0, as in the
    released code, kept in the set's own order.

    Files are checked before any image is read. A copy with another number of images than the official one works;
    :attr:`differences` describes how it differs.

    Args:
        data_root: Folder of the set. :meth:`find` looks for it below a folder of many sets.
        split: ``train``, ``val``, ``trainval`` or ``test``.
        pipeline: As for :class:`~proteus.datasets.ProxySet`.
        indices: As for :class:`~proteus.datasets.ProxySet`.

    Attributes:
        title: Name of the set.
        num_classes: Number of classes.
        metric: ``top1`` or ``mean_per_class`` accuracy, or ``map11`` (11-point mAP; labels are then multi-hot vectors
            ``(num_classes,)`` int8).
        has_val: Whether the set has an official validation split.
        sizes: Official numbers of training, validation and test images; training includes validation if only that
            is official. None for an unknown number.
        folder: Usual name of its folder below a folder of many sets.
        other_folders: Other names of that folder.
        nested: Subfolders in which the files may be instead.
        markers: Files or folders; the set is present if one of them exists.
        layout: Expected files.
        source: Official archives.
        full_size: Number of images in the split, before ``indices``.

    Raises:
        FileNotFoundError: A file is missing; the message shows the expected layout.
        ValueError: The split is unknown, or a file has invalid content.
    """

    title: str
    num_classes: int
    metric: Metric = "top1"
    has_val: bool = False
    sizes: tuple[int | None, int | None, int | None] = (None, None, None)
    folder: str
    other_folders: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    markers: tuple[str, ...]
    layout: str
    source: str

    def __init__(
        self, data_root: str, split: Split, pipeline: Sequence[Any] = (), indices: int | Sequence[int] | None = None
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"dataset.split={split!r}: write one of {', '.join(map(repr, get_args(Split)))}")
        self.split = split
        given = Path(data_root).expanduser()
        self.home = self._home(given) or given
        self.full_size = 0
        super().__init__(data_root, pipeline, indices)

    @classmethod
    def find(cls, root: str | Path) -> Path | None:
        """Find the set's folder below a folder of many sets; None if it is not present."""
        folders = (Path(root).expanduser() / name for name in (cls.folder, *cls.other_folders))
        return next((folder for folder in folders if cls._home(folder)), None)

    @classmethod
    def _home(cls, folder: Path) -> Path | None:
        for home in (folder, *(folder / name for name in cls.nested)):
            if any((home / marker).exists() for marker in cls.markers):
                return home
        return None

    @abstractmethod
    def list_part(self, part: Part) -> list[Listed]:
        """List an official split in its official order; called with ``val`` only if :attr:`has_val`."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split; ``in_val`` marks images of ``trainval`` that belong to ``val``."""
        listed, in_val = self._list_split()
        if not listed:
            raise ValueError(f"dataset.data_root: {self.title} in {self.home} has no images in split={self.split!r}")
        outside = images_outside(listed, self.home)
        if outside:
            raise ValueError(f"{outside[0].where}: {outside[0].path} is not below {self.home}, the folder of the set")
        missing = missing_images(listed)
        if missing:
            raise FileNotFoundError(
                f"dataset.data_root: {len(missing):,} of the {len(listed):,} images of {self.title} are missing, the "
                f"first is {missing[0].path} ({missing[0].where})\n{self._expected_files()}"
            )
        self.full_size = len(listed)
        return [
            {"img_path": image.path, "label": image.label, "in_val": bool(val), **(image.place or {})}
            for image, val in zip(listed, in_val, strict=True)
        ]

    def _list_split(self) -> tuple[list[Listed], np.ndarray]:
        if self.split == "test":
            listed = self.list_part("test")
            return listed, np.zeros(len(listed), bool)
        if self.has_val:
            train, val = (
                self.list_part(part) if self.split in (part, "trainval") else [] for part in get_args(Part)[:2]
            )
            listed, in_val = [*train, *val], np.arange(len(train) + len(val)) >= len(train)
        else:
            listed = self.list_part("train")
            in_val = validation_part(len(listed))
            if self.split != "trainval":
                chosen = np.flatnonzero(in_val == (self.split == "val"))
                listed, in_val = [listed[position] for position in chosen], in_val[chosen]
        return listed, in_val

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load the view of an image. Unlike in a proxy set, corrupt images are never replaced.

        Raises:
            CorruptImageError: The image cannot be read.
        """
        key = SampleKey.of(key)
        with seeded(key, 0):
            sample = self.read(key.image, key.epoch)
        return sample

    def labels(self) -> np.ndarray:
        """Return the labels without reading images: ``(N,)`` int64, or multi-hot ``(N, num_classes)`` int8."""
        return np.stack([np.asarray(ProxySet.get_data_info(self, index)["label"]) for index in range(len(self))])

    def in_val(self) -> np.ndarray:
        """Return which images belong to ``val``, ``(N,)`` bool, so that ``trainval`` needs to be read only once."""
        return np.array([ProxySet.get_data_info(self, index)["in_val"] for index in range(len(self))])

    @property
    def differences(self) -> str:
        """How the copy differs from the official set; empty if it does not."""
        official = self._official_size()
        differences = []
        if official not in (None, self.full_size):
            differences.append(f"{self.full_size:,} images, officially {official:,}")
        labels = self.labels() if len(self) == self.full_size else np.zeros(0)
        if labels.size:
            found = np.count_nonzero(labels.any(0)) if labels.ndim == 2 else len(np.unique(labels))
            if found < self.num_classes:
                differences.append(f"images in {found} of {self.num_classes} classes")
        return "; ".join(differences)

    def describe(self) -> str:
        """Return name, folder and number of images, and how the copy differs from the official set."""
        text = f"{self.title} ({self.split}) {self.home}: {len(self):,} images, {self.num_classes} classes"
        return f"{text} ({self.differences})" if self.differences else text

    def _official_size(self) -> int | None:
        train, val, test = self.sizes
        if self.split == "test" or train is None:
            return test if self.split == "test" else None
        if not self.has_val:
            val = _fifth(train)
            train -= val
        return {"train": train, "val": val, "trainval": train + (val or 0)}[self.split]

    def file(self, *names: str) -> Path:
        """Find a file or folder of the set.

        Args:
            *names: Its possible paths relative to the set's folder, the usual one first.

        Raises:
            FileNotFoundError: None of the paths exists.
        """
        for name in names:
            if (self.home / name).exists():
                return self.home / name
        fault = f" in {self.home}: {names[0]} is missing" if self.home.is_dir() else f": {no_folder(self.home)}"
        raise FileNotFoundError(f"dataset.data_root: {self.title}{fault}\n{self._expected_files()}")

    def _expected_files(self) -> str:
        return f"expected files ({self.source}):\n{indent(self.layout.strip(), '  ')}"

    def numbered(self, number: Any, first: int, where: str) -> int:
        """Convert a class number of a file to a label.

        Args:
            number: The number, or its text.
            first: Number of the first class in the file.
            where: Place in the file, for the message.

        Raises:
            ValueError: The number is invalid or out of range.
        """
        try:
            label = int(number) - first
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {number!r} is not a class number") from None
        if not 0 <= label < self.num_classes:
            raise ValueError(
                f"{where}: class {number} is out of range, {self.title} has {first} to {first + self.num_classes - 1}"
            )
        return label

    def named(self, name: str, classes: Mapping[str, int], where: str) -> int:
        """Convert a class name to a label.

        Raises:
            ValueError: The class is unknown.
        """
        if name not in classes:
            raise ValueError(f"{where}: unknown class {name!r}; {self.title} has {len(classes)} classes")
        return classes[name]

    def classes_of(self, names: Sequence[str], where: str | Path) -> dict[str, int]:
        """Number class names in their order.

        Raises:
            ValueError: There are too many names, or a name is repeated.
        """
        if len(names) > self.num_classes or len(set(names)) < len(names):
            raise ValueError(
                f"{where} has {len(names)} classes, {len(set(names))} of them different; {self.title} has "
                f"{self.num_classes}: remove the others"
            )
        return {name: label for label, name in enumerate(names)}


def validation_part(count: int) -> np.ndarray:
    """Choose the validation images of a set without a validation split: ``(count,)`` bool over its training images."""
    part = np.zeros(count, bool)
    part[np.random.RandomState(0).permutation(count)[: _fifth(count)]] = True
    return part


def _fifth(count: int) -> int:
    return int(np.floor(0.2 * count))
