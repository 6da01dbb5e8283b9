"""Read a teacher cache."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from proteus.datasets.teacher_cache.encodings import Encoding, load_encoding
from proteus.datasets.teacher_cache.index import CacheError, CacheIndex, read_index
from proteus.datasets.teacher_cache.shards import checksum, is_whole

# Each mapped file uses a descriptor; a process often has 1024.
_MAX_OPEN = 128
_INFINITE = np.uint16(0x7C00)
_COLUMNS = ("cls", "patches", "corrupt", "pixels", "checksum")


class Tokens(NamedTuple):
    """Cached tokens of one view.

    Attributes:
        cls: Cls token ``(D,)`` float32.
        patches: Patch tokens ``(N, D)`` float16.
        corrupt: Number of unreadable images that were replaced before the one that the view shows.
        pixels: Checksum of the view.
    """

    cls: np.ndarray
    patches: np.ndarray
    corrupt: int
    pixels: int


class TeacherCache:
    """Tokens of fixed views. Each process maps files from disk at their first use.

    Args:
        folder: Folder written by ``proteus cache``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._index: CacheIndex | None = None
        self._encoding: Encoding | None = None
        self._open: OrderedDict[str, Any] = OrderedDict()

    @property
    def index(self) -> CacheIndex:
        """Index of the cache.

        Raises:
            CacheError: The index is missing or damaged, or the cache is not finished.
        """
        if self._index is None:
            index = read_index(self.folder)
            if index is None:
                raise CacheError(f"dataset.cache: no teacher cache in {self.folder}")
            if not index.complete:
                raise CacheError(f"dataset.cache: the teacher cache in {self.folder} was not finished")
            self._index = index
        return self._index

    def check_files(self) -> None:
        """Check that all files exist with the expected shapes.

        Raises:
            CacheError: Files are missing or damaged; the message names them.
        """
        wrong = [s.name for s in self.index.shards() if not is_whole(self.folder / s.name, self.index, s)]
        if wrong:
            raise CacheError(
                f"dataset.cache: {len(wrong):,} files of the teacher cache in {self.folder} are missing or damaged: "
                f"{', '.join(wrong[:5])}"
            )
        self._encoding = load_encoding(self.index, self.folder)

    def read(self, image: int, view: int) -> Tokens:
        """Read the tokens of one view.

        Args:
            image: Position in the proxy set.
            view: The view.

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
            found = (
                f"tokens of shape {cls.shape} and {patches.shape}, but the index expects {shapes[0]} and {shapes[1]}"
            )
            raise CacheError(f"{self.folder / name} has {found}: {_REMEDY}")
        # Only NaN and infinity have all exponent bits set; np.isfinite takes 7 times as long.
        if not np.isfinite(cls).all() or ((patches.view(np.uint16) & _INFINITE) == _INFINITE).any():
            raise CacheError(f"{self.folder / name} has NaN or infinite tokens (row {row}): {_REMEDY}")

    def _file(self, name: str) -> Any:
        file = self._open.pop(name, None)
        if file is None:
            file = safe_open(self.folder / name, "numpy")
        self._open[name] = file
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open files."""
        return {**self.__dict__, "_open": OrderedDict()}


_REMEDY = "remove it, and run proteus cache again with the same arguments"
