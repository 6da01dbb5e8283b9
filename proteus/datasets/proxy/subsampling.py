"""Subsets of proxy sets: the paper's sub-data and sub-class (section 3.5)."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha1
from os.path import splitext
from pathlib import Path
from typing import Any

import numpy as np

from proteus.datasets.proxy.folder_index import ImageList
from proteus.datasets.proxy.proxy_set import ProxySet
from proteus.structures import DataError
from proteus.utils import write_text
from proteus.utils.files import decode_text

Amount = int | float | None


class SubsampledProxySet(ProxySet):
    """Proxy set with named images from which a subset can be drawn.

    The class of an image is the first folder of its name. The subset depends only on the seed and on the names without
    their endings: it is the same in every process and on every machine, and for a folder and the shards made from it if
    no two names differ in their endings alone and no file name has another dot.

    Args:
        data_root: As for :class:`ProxySet`.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`; applied to the subset.
        images_per_class: Number (int) or fraction (float) of the images of each class to take. A fraction is exact in
            total, and within one image in each class.
        classes: Number (int) or fraction (float) of the classes to take.
        subset_seed: Seed of the subset.
        list_file: File with the names of the images to take, one per line, in its order; an earlier run writes it as
            ``proxy_set.txt``.

    Attributes:
        full_size: Number of images before subsampling.

    Raises:
        FileNotFoundError: ``list_file`` does not exist.
        DataError: ``list_file`` names images that the set does not have.
        ValueError: The set has fewer images or classes.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        images_per_class: Amount = None,
        classes: Amount = None,
        subset_seed: int = 0,
        list_file: str | None = None,
    ) -> None:
        if list_file is not None and (images_per_class is not None or classes is not None):
            raise ValueError("dataset.list_file chooses the images; remove images_per_class and classes")
        self.images_per_class = images_per_class
        self.classes = classes
        self.subset_seed = subset_seed
        self.list_file = list_file
        self.full_size = 0
        super().__init__(data_root, pipeline, indices)

    @abstractmethod
    def name_of(self, info: dict[str, Any]) -> str:
        """Return the name of an image relative to the root; it is unique in the set."""

    def path_of(self, name: str) -> str:
        """Return a name without anything that precedes its class folder."""
        return name

    def filter_data(self) -> Sequence[dict[str, Any]]:
        """Take the subset; BaseDataset calls this after listing the images."""
        self.full_size = len(self.data_list)
        if self.list_file is not None:
            positions = read_list(self.list_file, [self.name_of(info) for info in self.data_list])
        elif self.images_per_class is not None or self.classes is not None:
            paths = [self.path_of(self.name_of(info)) for info in self.data_list]
            positions = choose(paths, self.images_per_class, self.classes, self.subset_seed)
        else:
            return self.data_list
        listed: Sequence[dict[str, Any]] = self.data_list
        return listed.take(positions) if isinstance(listed, ImageList) else [listed[position] for position in positions]

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.data_list, ImageList):
            # It is compact, and forked workers share it.
            self.serialize_data = False
            return np.empty(0, np.uint8), np.empty(0, np.int64)
        packed: tuple[np.ndarray, np.ndarray] = super()._serialize_data()
        return packed

    def describe(self) -> str:
        """Describe the set, its full size and how the subset was chosen."""
        return super().describe() + (f" of {self.full_size:,} ({self._choice()})" if self._choice() else "")

    def names(self) -> list[str]:
        """Return the names of the images in order."""
        return [self.name_of(ProxySet.get_data_info(self, index)) for index in range(len(self))]

    def chosen(self) -> dict[str, list[str]]:
        """Return the names if a subset was taken."""
        return {"": self.names()} if self._choice() else {}

    def _choice(self) -> str:
        if self.list_file is not None:
            return f"list_file={self.list_file}"
        amounts = {"images_per_class": self.images_per_class, "classes": self.classes}
        given = {key: amount for key, amount in amounts.items() if amount is not None}
        return ", ".join(f"{key}={value}" for key, value in {**given, "subset_seed": self.subset_seed}.items() if given)


def choose(paths: Sequence[str], images_per_class: Amount, classes: Amount, seed: int) -> list[int]:
    """Draw a random subset of images.

    Args:
        paths: ``CLASS/NAME`` of each image; endings are ignored.
        images_per_class: Number (int) or fraction (float) of the images of each class; None for all.
        classes: Number (int) or fraction (float) of the classes; None for all.
        seed: Seed of the subset.

    Returns:
        Positions in ``paths``, ascending.

    Raises:
        ValueError: There are too few images or classes.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        first, slash, _ = path.partition("/")
        groups[first if slash else ""].append(position)
    names = _shuffled(sorted(groups), sorted(groups), seed)[: _number("classes", classes, len(groups))]
    taken: list[int] = []
    seen = 0
    for name in sorted(names):
        members = groups[name]
        if isinstance(images_per_class, float):
            # Round the running total instead of each class, so that the sum is exact.
            count = _number("images_per_class", images_per_class, seen + len(members)) - len(taken)
        else:
            count = _number("images_per_class", images_per_class, len(members), f" in class '{name}'")
        seen += len(members)
        stems = [splitext(paths[position])[0] for position in members]
        taken += _shuffled(members, stems, seed)[:count]
    return sorted(taken)


def read_list(list_file: str, names: Sequence[str]) -> list[int]:
    """Find the images of a list.

    Args:
        list_file: UTF-8 text file with one name per line. Lines at the start that begin with ``#`` and are not names of
            images are comments. A line in double quotes is a JSON string, as :func:`write_list` writes some names.
        names: Names of all images of the set.

    Returns:
        Positions in ``names``, in the order of the list.

    Raises:
        FileNotFoundError: The list does not exist.
        DataError: The list is empty or not text, or has unknown or duplicate names.
    """
    path = Path(list_file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"dataset.list_file: {path} does not exist")
    positions = {name: position for position, name in enumerate(names)}
    # Keep carriage returns: a name may end in one.
    lines = decode_text(path.read_bytes(), f"dataset.list_file: {path}").split("\n")
    wanted: list[str] = []
    for line in lines:
        name = _name_in(line, positions)
        is_comment = line.startswith("#") and not wanted and name not in positions
        if name and not is_comment:
            wanted.append(name)
    missing = [name for name in wanted if name not in positions]
    if missing:
        raise DataError(
            f"dataset.list_file: {len(missing):,} of the {len(wanted):,} images in {path} are not below "
            f"dataset.data_root, the first is {missing[0]!r}; names must be relative to that folder"
        )
    if not wanted:
        raise DataError(f"dataset.list_file: {path} lists no images")
    repeated = [name for name, count in Counter(wanted).items() if count > 1]
    if repeated:
        raise DataError(f"dataset.list_file: {path} lists images twice, the first is {repeated[0]!r}")
    return [positions[name] for name in wanted]


def write_list(path: Path, names: Sequence[str], comment: str) -> None:
    """Write a list for :func:`read_list`; names may have any bytes."""
    lines = [f"# {comment}", *(json.dumps(name) if _needs_quotes(name) else name for name in names)]
    write_text(path, "\n".join(lines) + "\n")


def _needs_quotes(name: str) -> bool:
    return "\n" in name or "\r" in name or name.startswith(('"', "#"))


def _name_in(line: str, names: Mapping[str, int]) -> str:
    if line in names:
        return line
    line = line.removesuffix("\r")
    if line not in names and line.startswith('"'):
        with suppress(ValueError):
            decoded = json.loads(line)
            return decoded if isinstance(decoded, str) else line
    return line


def _number(key: str, amount: Amount, available: int, where: str = "") -> int:
    if amount is None:
        return available
    if isinstance(amount, float):
        if not 0 < amount <= 1:
            raise ValueError(f"dataset.{key}={amount}: write a fraction in (0, 1], or an integer")
        return math.floor(amount * available + 0.5)
    if not 0 < amount <= available:
        raise ValueError(
            f"dataset.{key}={amount}: only {available}{where} available; write a smaller number or a fraction"
        )
    return amount


def _shuffled(items: Sequence[Any], keys: Sequence[str], seed: int) -> list[Any]:
    digests = [sha1(f"{seed}/{key}".encode(errors="surrogateescape")).digest() for key in keys]
    return [items[position] for position in sorted(range(len(items)), key=digests.__getitem__)]
