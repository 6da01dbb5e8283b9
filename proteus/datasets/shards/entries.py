"""The images of a shard, in a few arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from proteus.datasets.proxy.folder_index import decode_names, encode_names

Entry = tuple[str, int, int]
_LARGEST = (1 << 62) - 1


class Entries(Sequence[Entry]):
    """Name, offset and size in bytes of each image; 20 bytes an image and its name, a fifth of a list of tuples.

    Args:
        rows: The entries.

    Attributes:
        names: The names as encoded by :func:`~proteus.datasets.proxy.folder_index.encode_names`.
        offsets: Offsets ``(N,)`` int64.
        sizes: Sizes ``(N,)`` int64.

    Raises:
        ValueError: A name holds a zero byte.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        names = [str(name) for name, _, _ in rows]
        # The headers of a damaged shard may hold any number.
        self.offsets = np.fromiter((max(min(int(offset), _LARGEST), -1) for _, offset, _ in rows), np.int64, len(rows))
        self.sizes = np.fromiter((max(min(int(size), _LARGEST), -1) for _, _, size in rows), np.int64, len(rows))
        self.names = encode_names(names)
        if int((self.names == 0).sum()) != len(rows):
            raise ValueError("a name with a zero byte")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.offsets)

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the entries."""
        return zip(decode_names(self.names), self.offsets.tolist(), self.sizes.tolist(), strict=True)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        """Return an entry, or a list of them."""
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same entries."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
