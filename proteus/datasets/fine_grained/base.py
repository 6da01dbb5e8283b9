"""A labelled set with the splits of the fine-grained protocol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, get_args

import numpy as np

from proteus.datasets.fine_grained.listing import Listed, missing_images
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.datasets.seeding import SampleKey, seeded
from proteus.utils.files import no_folder

Part = Literal["train", "val", "test"]
Split = Literal["train", "val", "trainval", "test"]
Metric = Literal["mean_per_class", "top1", "map11"]


class FineGrainedSet(ProxySet):
    """A labelled set as its official archive unpacks (docs/reproduction.md#fine-grained-classification).

    A sample has a ``label`` beside its image. ``trainval`` is ``train`` and ``val`` together. A set without a split of
    its own for validation gives a random fifth of its training images: the first ``floor(0.2 n)`` of a permutation
    that NumPy draws with seed 0, as the released code does, in the order in which the set lists its images.

    What is wrong with the files is told before any image is read. A copy with another number of images than the
    official one works, and :attr:`deviation` tells it.

    Args:
        data_root: The set's own folder; :meth:`find` finds it below a folder of many sets.
        split: ``train``, ``val``, ``trainval`` or ``test``.
        pipeline: As for :class:`~proteus.datasets.ProxySet`.
        indices: As for :class:`~proteus.datasets.ProxySet`.

    Attributes:
        title: What to call the set.
        num_classes: How many classes it has.
        metric: How it is judged: ``top1``, ``mean_per_class`` (accuracy) or ``map11`` (11-point mAP; labels are then
            ``(num_classes,)`` int8 of zeros and ones).
        has_val: Whether it has a validation split of its own.
        sizes: Official numbers of images for training (with those for validation, where it has no own split for
            that), validation and test; None where no number is official.
        folder: What its folder below a folder of many sets is called.
        other_folders: What else it may be called there.
        nested: Folders within it in which its files may stand too.
        markers: Files or folders, one of which shows that it is there.
        layout: What must be there.
        source: The official archives.

    Raises:
        FileNotFoundError: A file is missing; the message tells the layout that is expected.
        ValueError: There is no such split, or a file says what cannot be.
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
        self.whole = 0
        super().__init__(data_root, pipeline, indices)

    @classmethod
    def find(cls, root: str | Path) -> Path | None:
        """The set's folder below a folder of many sets; None where it is not there."""
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
        """List an official split in its official order; ``val`` is asked for only where the set has one."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split; ``in_val`` marks those of ``trainval`` that ``val`` has too."""
        listed, in_val = self._list_split()
        if not listed:
            raise ValueError(f"dataset.data_root: {self.title} in {self.home} has no image in split={self.split!r}")
        missing = missing_images(listed)
        if missing:
            raise FileNotFoundError(
                f"dataset.data_root: of {self.title}, {len(missing):,} of the {len(listed):,} images listed are "
                f"missing, the first of them {missing[0].path} ({missing[0].where})\n{self._expected()}"
            )
        self.whole = len(listed)
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
        """The view of an image. Unlike a proxy set's, a corrupt image is never replaced: each one counts in a score.

        Raises:
            CorruptImageError: It cannot be read.
        """
        key = SampleKey.of(key)
        with seeded(key, 0):
            sample = self.read(key.image, key.epoch)
        return sample

    def labels(self) -> np.ndarray:
        """The labels without reading an image: ``(N,)`` int64, or ``(N, num_classes)`` int8 where there are several."""
        return np.stack([np.asarray(ProxySet.get_data_info(self, index)["label"]) for index in range(len(self))])

    def in_val(self) -> np.ndarray:
        """Which of the images belong to ``val``, ``(N,)`` bool: so ``trainval`` need be read only once."""
        return np.array([ProxySet.get_data_info(self, index)["in_val"] for index in range(len(self))])

    @property
    def deviation(self) -> str:
        """In what the copy differs from the official set; empty where it does not."""
        official = self._official_size()
        told = []
        if official not in (None, self.whole):
            told.append(f"{self.whole:,} images, officially {official:,}")
        labels = self.labels() if len(self) == self.whole else np.zeros(0)
        if labels.size:
            found = np.count_nonzero(labels.any(0)) if labels.ndim == 2 else len(np.unique(labels))
            if found < self.num_classes:
                told.append(f"images in {found} of {self.num_classes} classes")
        return "; ".join(told)

    def describe(self) -> str:
        """What the set is, where it is, how many images it has, and how that differs from the official set."""
        told = f"{self.title} ({self.split}) {self.home}: {len(self):,} images, {self.num_classes} classes"
        return f"{told} ({self.deviation})" if self.deviation else told

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
            *names: Where it may stand below the set's folder, the usual place first.

        Raises:
            FileNotFoundError: It stands in none of these places.
        """
        for name in names:
            if (self.home / name).exists():
                return self.home / name
        what = f" in {self.home}: {names[0]} is missing" if self.home.is_dir() else f": {no_folder(self.home)}"
        raise FileNotFoundError(f"dataset.data_root: {self.title}{what}\n{self._expected()}")

    def _expected(self) -> str:
        return f"what must be there, as {self.source} unpacks:\n{indent(self.layout.strip(), '  ')}"

    def numbered(self, number: Any, first: int, where: str) -> int:
        """Turn a class's number in a file into a label.

        Args:
            number: The number, or its text.
            first: The number of the file's first class.
            where: The place in the file, for the message.

        Raises:
            ValueError: It is no number, or out of range.
        """
        try:
            label = int(number) - first
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {number!r} is not the number of a class") from None
        if not 0 <= label < self.num_classes:
            raise ValueError(
                f"{where}: class {number} is out of range, {self.title} has {first} to {first + self.num_classes - 1}"
            )
        return label

    def named(self, name: str, classes: Mapping[str, int], where: str) -> int:
        """Turn a class's name into a label.

        Raises:
            ValueError: There is no such class.
        """
        if name not in classes:
            raise ValueError(f"{where}: {name!r} is none of the {len(classes)} classes of {self.title}")
        return classes[name]

    def classes_of(self, names: Sequence[str], where: str | Path) -> dict[str, int]:
        """Number the names of classes in their order.

        Raises:
            ValueError: There are more than the set has, or one stands twice.
        """
        if len(names) > self.num_classes or len(set(names)) < len(names):
            raise ValueError(
                f"{where} has {len(names)} classes, {len(set(names))} of them different; {self.title} has "
                f"{self.num_classes}: remove what does not belong to it"
            )
        return {name: label for label, name in enumerate(names)}


def validation_part(count: int) -> np.ndarray:
    """Which of ``count`` training images a set without a validation split gives to validation, ``(count,)`` bool."""
    part = np.zeros(count, bool)
    part[np.random.RandomState(0).permutation(count)[: _fifth(count)]] = True
    return part


def _fifth(count: int) -> int:
    return int(np.floor(0.2 * count))
