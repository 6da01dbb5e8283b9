"""A teacher's embeddings of sentences, computed once and mapped from disk."""

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
_REMEDY = "give the command that built it again: python -m projects.dime_fm.cache_sentences CONFIG"


@dataclass
class SentenceIndex:
    """The description of a cache: ``index.json``.

    Attributes:
        teacher: What the embeddings depend on, of the text tower.
        sentences: What they depend on, of the files.
        count: Number of sentences.
        width: Of an embedding.
        rows: Sentences in a file; the last one has what is left.
        complete: Whether all files have been written.
    """

    teacher: dict[str, Any]
    sentences: dict[str, Any]
    count: int
    width: int
    rows: int
    complete: bool = field(default=False, kw_only=True)

    def files(self) -> Iterator[tuple[str, range]]:
        """Name of each file, and the sentences in it."""
        for number, start in enumerate(range(0, self.count, self.rows)):
            yield f"texts-{number:05}.safetensors", range(start, min(start + self.rows, self.count))


class SentenceCache:
    """The embeddings of all sentences of some files, in their order.

    Files hold ``texts`` ``(R, D)`` float32, of length 1, as the teacher gave them, and ``checksum`` ``(R,)`` uint32.
    They are opened when they are first asked for, in each process by itself.

    Args:
        folder: What ``python -m projects.dime_fm.cache_sentences`` wrote.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._index: SentenceIndex | None = None
        self._open: dict[str, Any] = {}

    @property
    def index(self) -> SentenceIndex:
        """The description.

        Raises:
            CacheError: There is none, it is damaged, or the cache is not finished.
        """
        if self._index is None:
            index = read_index(self.folder)
            if index is None or not index.complete:
                what = "there is no cache of sentences" if index is None else "the cache of sentences is not finished"
                raise CacheError(f"sentences.cache: {what} in {self.folder}: {_REMEDY}")
            wrong = [name for name, _ in index.files() if not is_whole(self.folder, index, name)]
            if wrong:
                raise CacheError(
                    f"sentences.cache: {len(wrong):,} files in {self.folder} are missing or damaged, such as "
                    f"{wrong[0]}: {_REMEDY}"
                )
            self._index = index
        return self._index

    def read(self, row: int) -> np.ndarray:
        """The embedding of a sentence, ``(D,)``.

        Raises:
            CacheError: The file is missing or damaged.
        """
        number, row = divmod(row, self.index.rows)
        name = f"texts-{number:05}.safetensors"
        try:
            if name not in self._open:
                self._open[name] = safe_open(self.folder / name, "numpy")
            text, known = (self._open[name].get_slice(key)[row : row + 1] for key in ("texts", "checksum"))
            whole = _checksum(text[0]) == int(known[0])
        except (OSError, SafetensorError, IndexError, ValueError, TypeError) as error:
            raise CacheError(f"{self.folder / name} is missing or damaged ({error}): {_REMEDY}") from error
        if not whole:
            raise CacheError(f"{self.folder / name} is damaged (row {row}): remove it, and {_REMEDY}")
        if not np.isfinite(text[0]).all():
            raise CacheError(f"{self.folder / name} has NaN or infinite values (row {row}): remove it, and {_REMEDY}")
        return np.asarray(text[0])

    def __getstate__(self) -> dict[str, Any]:
        """Files stay with their process."""
        return {**self.__dict__, "_open": {}}


def read_index(folder: Path) -> SentenceIndex | None:
    """Read the description of a cache; None where there is none.

    Raises:
        CacheError: It is damaged, or of another version of the format.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise CacheError(f"{path} is of another version of the format: remove it, and {_REMEDY}")
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
            f"{path} is damaged or unreadable ({type(error).__name__}: {error}): remove it, and {_REMEDY}"
        ) from error


def write_index(folder: Path, index: SentenceIndex) -> None:
    """Write the description atomically.

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
            "infinite; nothing was written for them: check model.teacher.checkpoint"
        )
    content = {"texts": texts, "checksum": np.array([_checksum(row) for row in texts], np.uint32)}
    write_bytes(folder / name, save(content))


def is_whole(folder: Path, index: SentenceIndex, name: str) -> bool:
    """Whether a file is there in the shape that the index asks for; its numbers are not looked at."""
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
