"""List the images of many shards compactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from proteus.datasets.proxy.folder_index import ImageList, decode_names
from proteus.datasets.shards.entries import Entries
from proteus.datasets.shards.index_file import Shard


class ShardList(ImageList):
    """List of the images of shards in a few arrays; the dict of an image is made on access.

    Args:
        root: Folder or URL of the shards, with a trailing slash.
        shards: The shards, of which none has more than 2^31 images.
    """

    def __init__(self, root: str, shards: Sequence[Shard]) -> None:
        entries = [each.images if isinstance(each.images, Entries) else Entries(each.images) for each in shards]
        super().__init__(root, _joined([each.names for each in entries], np.uint8))
        self.shards = [shard.name for shard in shards]
        self._starts = np.cumsum([0, *map(len, entries)])
        self._offsets = _joined([each.offsets for each in entries], np.int64)
        self._sizes = _joined([each.sizes for each in entries], np.int64)

    def names(self) -> list[str]:
        """Return ``SHARD/NAME`` of each image."""
        numbers, names = self.shard_numbers(), decode_names(self._names)
        chosen = names if self._positions is None else [names[position] for position in self._positions]
        return [f"{self.shards[number]}/{name}" for number, name in zip(numbers.tolist(), chosen, strict=True)]

    def shard_numbers(self) -> np.ndarray:
        """Return the number in ``shards`` of the shard of each image, int32."""
        numbers = np.repeat(np.arange(len(self.shards), dtype=np.int32), np.diff(self._starts))
        return numbers if self._positions is None else numbers[self._positions]

    def take(self, positions: Sequence[int] | np.ndarray) -> ShardList:
        """Return the images at some positions."""
        taken = object.__new__(type(self))
        taken.__dict__ = dict(self.__dict__)
        chosen = np.asarray(positions, dtype=np.int64)
        taken._positions = chosen if self._positions is None else self._positions[chosen]
        return taken

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> ImageList: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | ImageList:
        """Return ``img_path``, ``shard``, ``offset`` and ``size`` of an image; or a list for a slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        index %= len(self)
        position = index if self._positions is None else int(self._positions[index])
        start = int(self._ends[position - 1]) + 1 if position else 0
        (name,) = decode_names(self._names[start : self._ends[position] + 1])
        shard = self.shards[int(np.searchsorted(self._starts, position, "right")) - 1]
        return {
            "img_path": f"{self.root}{shard}/{name}",
            "shard": shard,
            "offset": int(self._offsets[position]),
            "size": int(self._sizes[position]),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the dicts of all images."""
        return (self[index] for index in range(len(self)))


def _joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
