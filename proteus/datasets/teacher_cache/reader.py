"""Reading a teacher cache."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from proteus.datasets.teacher_cache.encodings import Encoding, load_encoding
from proteus.datasets.teacher_cache.index import CacheError, CacheIndex, read_index
from proteus.datasets.teacher_cache.shards import checksum, is_whole

# Each mapped file keeps a descriptor, of which a process often has 1024.
_MOST_OPEN = 128
_INFINITE = np.uint16(0x7C00)
_COLUMNS = ("cls", "patches", "corrupt", "pixels", "checksum")


class Tokens(NamedTuple):
    """What the cache has of one view.

    Attributes:
        cls: ``(D,)`` float32, as the teacher gave it.
        patches: ``(N, D)`` float16.
        corrupt: How many images could not be read before the one that the view shows.
        pixels: Checksum of the view.
    """

    cls: np.ndarray
    patches: np.ndarray
    corrupt: int
    pixels: int


class TeacherCache:
    """The tokens of fixed views, mapped from disk when they are first asked for, in each process by itself.

    Args:
        folder: What ``tools/cache_teacher.py`` wrote.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._index: CacheIndex | None = None
        self._encoding: Encoding | None = None
        self._open: OrderedDict[str, Any] = OrderedDict()

    @property
    def index(self) -> CacheIndex:
        """The description.

        Raises:
            CacheError: There is none, it is damaged, or the cache is not finished.
        """
        if self._index is None:
            index = read_index(self.folder)
            if index is None:
                raise CacheError(f"dataset.cache: there is no teacher cache in {self.folder}")
            if not index.complete:
                raise CacheError(f"dataset.cache: the teacher cache in {self.folder} was not finished")
            self._index = index
        return self._index

    def check_files(self) -> None:
        """Look whether all files are there and as long as they should be.

        Raises:
            CacheError: Names those that are not.
        """
        wrong = [s.name for s in self.index.shards() if not is_whole(self.folder / s.name, self.index, s)]
        if wrong:
            raise CacheError(
                f"dataset.cache: {len(wrong):,} files of the teacher cache in {self.folder} are missing or damaged: "
                f"{', '.join(wrong[:5])}"
            )
        self._encoding = load_encoding(self.index, self.folder)

    def read(self, image: int, view: int) -> Tokens:
        """The tokens of one view.

        Args:
            image: Position in the proxy set.
            view: Which view.

        Raises:
            CacheError: The file is missing or damaged.
        """
        name, row = self.index.find(image, view)
        if self._encoding is None:
            self._encoding = load_encoding(self.index, self.folder)
        try:
            file = self._file(name)
            parts = {key: file.get_slice(key)[row : row + 1][0] for key in _COLUMNS}
            matches = checksum(parts["cls"], parts["patches"]) == int(parts["checksum"])
            patches = self._encoding.decode(parts["patches"]) if matches else None
        except (OSError, SafetensorError, IndexError, ValueError, TypeError) as error:
            raise CacheError(f"{self.folder / name} is missing or damaged ({error}): {_REMEDY}") from error
        if patches is None:
            raise CacheError(f"{self.folder / name} is damaged (row {row}): {_REMEDY}")
        self._check_values(name, row, parts["cls"], patches)
        return Tokens(parts["cls"], patches, int(parts["corrupt"]), int(parts["pixels"]))

    def _check_values(self, name: str, row: int, cls: np.ndarray, patches: np.ndarray) -> None:
        grid = self.index.grid
        shapes = (self.index.cls_dim,), (grid[0] * grid[1], self.index.cls_dim)
        if (cls.shape, patches.shape) != shapes:
            found = f"tokens of shape {cls.shape} and {patches.shape}, and the index says {shapes[0]} and {shapes[1]}"
            raise CacheError(f"{self.folder / name} has {found}: {_REMEDY}")
        # Only NaN and infinity have all exponent bits set; np.isfinite takes 7 times as long.
        if not np.isfinite(cls).all() or ((patches.view(np.uint16) & _INFINITE) == _INFINITE).any():
            raise CacheError(f"{self.folder / name} has NaN or infinite tokens (row {row}): {_REMEDY}")

    def _file(self, name: str) -> Any:
        file = self._open.pop(name, None)
        if file is None:
            file = safe_open(self.folder / name, "numpy")
        self._open[name] = file
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, Any]:
        """Files stay with their process."""
        return {**self.__dict__, "_open": OrderedDict()}


_REMEDY = "remove it, and give the command that built the cache again (tools/cache_teacher.py)"
