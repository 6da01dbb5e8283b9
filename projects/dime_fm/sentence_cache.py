"""Cache of a teacher's sentence embeddings, computed once and read from disk."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from proteus.datasets.teacher_cache import CacheError
from proteus.datasets.teacher_cache.index import is_count
from proteus.utils import write_bytes, write_json

FORMAT = 1
INDEX = "index.json"
_MAX_FILES = 2**20
_DICTS = ("teacher", "sentences")
_REMEDY = "run python -m projects.dime_fm.cache_sentences CONFIG again"


@dataclass
class SentenceIndex:
    """Index of a cache: ``index.json``.

    Attributes:
        teacher: Fingerprint of the text tower.
        sentences: Fingerprint of the files.
        count: Number of sentences.
        width: Width of an embedding.
        rows: Sentences per file; the last file may have fewer.
        complete: Whether all files have been written.
    """

    teacher: dict[str, Any]
    sentences: dict[str, Any]
    count: int
    width: int
    rows: int
    complete: bool = field(default=False, kw_only=True)

    def files(self) -> Iterator[tuple[str, range]]:
        """Yield the name of each file and the positions of its sentences."""
        for number, start in enumerate(range(0, self.count, self.rows)):
            yield f"texts-{number:05}.safetensors", range(start, min(start + self.rows, self.count))


class SentenceCache:
    """Embeddings of all sentences of some text files, in the order of the files.

    Each file has ``texts`` ``(R, D)`` float32, of length 1, and ``checksum`` ``(R,)`` uint32. Files are opened on first
    use, separately in each process.

    Args:
        folder: Folder written by ``python -m projects.dime_fm.cache_sentences``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._index: SentenceIndex | None = None
        self._open: dict[str, Any] = {}

    @property
    def index(self) -> SentenceIndex:
        """Index of the cache, read on first use.

        Raises:
            CacheError: It is missing or damaged, or the cache is unfinished.
        """
        if self._index is None:
            index = read_index(self.folder)
            if index is None or not index.complete:
                what = "no sentence cache" if index is None else "unfinished sentence cache"
                raise CacheError(f"sentences.cache: {what} in {self.folder}; {_REMEDY}")
            wrong = [name for name, _ in index.files() if not is_complete(self.folder, index, name)]
            if wrong:
                raise CacheError(
                    f"sentences.cache: {len(wrong):,} files in {self.folder} are missing or damaged, such as "
                    f"{wrong[0]}; {_REMEDY}"
                )
            self._index = index
        return self._index

    def read(self, row: int) -> np.ndarray:
        """Read the embedding of a sentence, ``(D,)``.

        Raises:
            CacheError: The file is missing or damaged, or the embedding is not finite.
        """
        number, row = divmod(row, self.index.rows)
        name = f"texts-{number:05}.safetensors"
        try:
            if name not in self._open:
                self._open[name] = safe_open(self.folder / name, "numpy")
            text, checksum = (self._open[name].get_slice(key)[row : row + 1] for key in ("texts", "checksum"))
            intact = _checksum(text[0]) == int(checksum[0])
        except (OSError, SafetensorError, IndexError, ValueError, TypeError) as error:
            raise CacheError(f"{self.folder / name} is missing or damaged ({error}); {_REMEDY}") from error
        if not intact:
            raise CacheError(f"{self.folder / name} is damaged (row {row}); remove it and {_REMEDY}")
        if not np.isfinite(text[0]).all():
            raise CacheError(f"{self.folder / name} has NaN or infinite values (row {row}); remove it and {_REMEDY}")
        return np.asarray(text[0])

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open files: each process opens its own."""
        return {**self.__dict__, "_open": {}}


def read_index(folder: Path) -> SentenceIndex | None:
    """Read the index of a cache, or return None if it is missing.

    Raises:
        CacheError: It is damaged, or has another format version.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise CacheError(f"{path} has another format version; remove it and {_REMEDY}")
        index = SentenceIndex(**content)
        counts = {name: getattr(index, name) for name in ("count", "width", "rows")}
        wrong = [f"{name}={value!r}" for name, value in counts.items() if not is_count(value, 1)]
        wrong += [f"{key}={value!r}" for key, value in vars(index).items() if key in _DICTS and type(value) is not dict]
        if wrong or type(index.complete) is not bool or index.count > _MAX_FILES * index.rows:
            raise ValueError(", ".join(wrong)[:200] or f"complete={index.complete!r}, {index.count} sentences")
        return index
    except CacheError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CacheError(
            f"{path} is damaged or unreadable ({type(error).__name__}: {error}); remove it and {_REMEDY}"
        ) from error


def write_index(folder: Path, index: SentenceIndex) -> None:
    """Write the index atomically.

    Raises:
        FullDiskError: The disk is full.
    """
    write_json(folder / INDEX, {"format": FORMAT, **dataclasses.asdict(index)}, indent=1)


def write_texts(folder: Path, name: str, texts: np.ndarray) -> None:
    """Write one file atomically.

    Raises:
        CacheError: An embedding is not finite.
        FullDiskError: The disk is full.
    """
    wrong = np.flatnonzero(~np.isfinite(texts).all(axis=1))
    if len(wrong):
        raise CacheError(
            f"{folder / name}: the teacher's embeddings of {len(wrong):,} of {len(texts):,} sentences are NaN or "
            "infinite; nothing was written, check model.teacher.checkpoint"
        )
    content = {"texts": texts, "checksum": np.array([_checksum(row) for row in texts], np.uint32)}
    write_bytes(folder / name, save(content))


def is_complete(folder: Path, index: SentenceIndex, name: str) -> bool:
    """Return whether a file exists with the shape that the index specifies, without reading its values."""
    rows = dict(index.files())[name]
    try:
        with safe_open(folder / name, "numpy") as file:
            texts, checksums = file.get_slice("texts"), file.get_slice("checksum")
            found = [(part.get_dtype(), tuple(part.get_shape())) for part in (texts, checksums)]
            return found == [("F32", (len(rows), index.width)), ("U32", (len(rows),))]
    except (OSError, SafetensorError):
        return False


def _checksum(row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).data)
