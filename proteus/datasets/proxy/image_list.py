"""A million paths in two arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}


class ImageList(Sequence[dict[str, Any]]):
    """What a data set knows of its images, made anew whenever it is asked for.

    A million dicts take half a gigabyte, and seconds to pickle one by one; arrays are read in no time, and shared by
    processes that are forked.

    Args:
        root: What stands before the names in the paths, with the slash.
        names: Paths below ``root``, UTF-8, each followed by a zero byte; uint8.
        labels: ``(N,)``, where the images are labelled.
        positions: Which of them, in which order; all by default.
    """

    def __init__(
        self, root: str, names: np.ndarray, labels: np.ndarray | None = None, positions: np.ndarray | None = None
    ) -> None:
        self.root = root
        self._names = names
        self._ends = np.flatnonzero(names == 0)
        self._labels = labels
        self._positions = positions

    @classmethod
    def of(cls, root: str, names: Sequence[str]) -> ImageList:
        """The list of some paths below a folder."""
        return cls(root, joined(names))

    def names(self) -> list[str]:
        """The paths below the root."""
        everything = split(self._names)
        return everything if self._positions is None else [everything[position] for position in self._positions]

    def labelled(self, labels: Sequence[int]) -> ImageList:
        """The same images with labels, one for each."""
        whole = np.zeros(len(self._ends), np.int64)
        whole[slice(None) if self._positions is None else self._positions] = labels
        return ImageList(self.root, self._names, whole, self._positions)

    def take(self, positions: Sequence[int] | np.ndarray) -> ImageList:
        """Some of the images."""
        chosen = np.asarray(positions, dtype=np.int64)
        return ImageList(
            self.root, self._names, self._labels, chosen if self._positions is None else self._positions[chosen]
        )

    def __len__(self) -> int:
        """How many images."""
        return len(self._ends if self._positions is None else self._positions)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> ImageList: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | ImageList:
        """``img_path`` and, where there are labels, ``label`` of an image; or the list of some."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} images, and none at {index}")
        index %= len(self)
        position = index if self._positions is None else int(self._positions[index])
        start = int(self._ends[position - 1]) + 1 if position else 0
        info: dict[str, Any] = {
            "img_path": self.root + str(self._names[start : self._ends[position]].data, **_ENCODING)
        }
        if self._labels is not None:
            info["label"] = int(self._labels[position])
        return info

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All of them in order."""
        names = self.names()
        if self._labels is None:
            return ({"img_path": self.root + name} for name in names)
        labels = self._labels if self._positions is None else self._labels[self._positions]
        return (
            {"img_path": self.root + name, "label": label} for name, label in zip(names, labels.tolist(), strict=True)
        )


def joined(names: Sequence[str]) -> np.ndarray:
    """Strings as bytes, each followed by a zero, which no file's name holds."""
    text = "".join(f"{name}\0" for name in names)
    return np.frombuffer(text.encode(**_ENCODING), np.uint8)


def split(names: np.ndarray) -> list[str]:
    """What :func:`joined` joined."""
    return str(names.data, **_ENCODING).split("\0")[:-1] if len(names) else []
