"""Sentence sets: one sentence per line of UTF-8 text files."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from projects.dime_fm.sentence_cache import SentenceCache, SentenceIndex
from proteus.checkpoints import locate
from proteus.datasets.teacher_cache import StaleCacheError, differences
from proteus.evaluation.text.open_clip_parts import tokenizer
from proteus.registry import DATASETS
from proteus.structures import DataError

Split = Literal["all", "train", "held-out"]
_LINE_FEED = 10
_LAST_BLANK = 32


@DATASETS.register_module()
class SentenceSet:
    """Sentences of one or several UTF-8 text files, one per line; blank lines are skipped.

    Files are memory-mapped and shared by processes and workers. In addition, 16 bytes per sentence hold its start and
    end.

    Args:
        list_file: One or several files; ``package:NAME/FILE`` is a file of an installed Python package.
        column: Index of the sentence's column, counted from 0, if lines are tab-separated columns.
        context_length: Tokens per sentence, including start and end; longer sentences are truncated.
        split: ``train``, ``held-out`` or ``all``.
        held_out: One in ``held_out`` sentences is held out. The choice depends only on the sentence's text, so equal
            sentences are in the same split.
        cache: Folder of a teacher's embeddings of these files, written by
            ``python -m projects.dime_fm.cache_sentences``; shared by all splits. With None the teacher runs.

    Raises:
        FileNotFoundError: A file does not exist.
        DataError: The files have no sentence, a line lacks the column, or a file is not UTF-8.
        ValueError: ``split``, ``column`` or ``held_out`` is invalid.
    """

    def __init__(
        self,
        list_file: str | Sequence[str],
        column: int | None = None,
        context_length: int = 77,
        split: Split = "all",
        held_out: int = 20,
        cache: str | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"sentences.split={split!r}: write one of {', '.join(map(repr, get_args(Split)))}")
        if held_out < 2:
            raise ValueError(f"sentences.held_out={held_out}: write at least 2, to hold out every second sentence")
        if column is not None and column < 0:
            raise ValueError(f"sentences.column={column}: write a number from 0, or None for whole lines")
        self.files = [locate(name) for name in ([list_file] if isinstance(list_file, str) else list_file)]
        self.column = column
        self.context_length = context_length
        self._texts = [_mapped(file) for file in self.files]
        spans = [_lines(text) for text in self._texts]
        self._file = np.repeat(np.arange(len(spans), dtype=np.int16), [len(span) for span in spans])
        self._spans = np.concatenate(spans) if spans else np.empty((0, 2), np.int64)
        self.cache = None if cache is None else SentenceCache(cache)
        self._cached: SentenceIndex | None = None
        self._rows: np.ndarray | None = None
        if split != "all":
            held = np.array([zlib.crc32(self[i].encode()) % held_out == 0 for i in range(len(self))], dtype=bool)
            kept = np.flatnonzero(held if split == "held-out" else ~held)
            self._file, self._spans = self._file[kept], self._spans[kept]
            self._rows = None if self.cache is None else kept
        if not len(self):
            names = ", ".join(map(str, self.files)) or "no file"
            raise DataError(f"sentences.list_file: no sentence in {names} (split={split!r}); write one per line")

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self._spans)

    def __getitem__(self, index: int) -> str:
        """Return a sentence.

        Raises:
            DataError: It is not UTF-8, or lacks the column; the message names the file and the line.
        """
        file, (start, end) = int(self._file[index]), self._spans[index]
        try:
            line = self._texts[file][start:end].tobytes().decode("utf-8-sig").strip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._place(index)} is not UTF-8 ({error}): convert the file, or remove the line"
            ) from error
        if self.column is None:
            return line.strip()
        columns = line.split("\t")
        if self.column >= len(columns) or not columns[self.column].strip():
            raise DataError(
                f"{self._place(index)} has no sentence in column {self.column} ({len(columns)} columns separated by "
                "tabs): fix the line, or set sentences.column"
            )
        return columns[self.column].strip()

    def tokens(self, indices: Sequence[int]) -> Tensor:
        """Tokenise sentences; return ``(N, context_length)`` int64, padded with 0."""
        return tokenizer()([self[int(index)] for index in indices], context_length=self.context_length)

    def teacher_texts(self, indices: Sequence[int]) -> Tensor:
        """Return the teacher's cached embeddings of sentences, ``(N, D)`` float32.

        Raises:
            CacheError: The cache, or a file of it, is missing or damaged.
            StaleCacheError: The cache is of other sentences.
        """
        assert self.cache is not None
        self.cached()
        rows = indices if self._rows is None else self._rows[list(indices)]
        return torch.from_numpy(np.stack([self.cache.read(int(row)) for row in rows]))

    def cached(self) -> SentenceIndex:
        """Return the cache's index after comparing it with the files, once and before the workers start.

        Raises:
            CacheError: The cache is missing, unfinished or damaged.
            StaleCacheError: The cache is of other sentences.
        """
        if self._cached is None:
            assert self.cache is not None
            index = self.cache.index
            different = differences(index.sentences, self.identity(), "sentences")
            if different:
                text = [
                    f"the cache in {self.cache.folder} is of other sentences (sentences.cache):",
                    *different,
                    "revert the change, build a new cache and name it, or set sentences.cache=None to run the teacher",
                ]
                raise StaleCacheError("\n  ".join(text))
            self._cached = index
        return self._cached

    def identity(self) -> dict[str, Any]:
        """Return what a teacher's embeddings of the whole set depend on: the content of the files, not their names."""
        digests = [hashlib.sha256(text.data).hexdigest() for text in self._texts]
        return {"files": digests, "column": self.column, "context_length": self.context_length}

    def describe(self) -> str:
        """Describe source and number of the sentences, for the log; checks the cache, if any."""
        source = ""
        if self.cache is not None:
            self.cached()
            source = f"; teacher embeddings from {self.cache.folder}"
        return f"SentenceSet {', '.join(map(str, self.files))}: {len(self):,} sentences{source}"

    def _place(self, index: int) -> str:
        file, start = int(self._file[index]), int(self._spans[index][0])
        number = int(np.count_nonzero(self._texts[file][:start] == _LINE_FEED)) + 1
        return f"{self.files[file]}, line {number},"


def _mapped(file: Path) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"sentences.list_file: {file} does not exist; create it, or name another file")
    if file.stat().st_size == 0:
        return np.empty(0, np.uint8)
    return np.memmap(file, np.uint8, mode="r")


def _lines(text: np.ndarray) -> np.ndarray:
    """Return start and end of the lines that are not blank, ``(N, 2)`` int64."""
    ends = np.append(np.flatnonzero(text == _LINE_FEED), len(text))
    starts = np.append(0, ends[:-1] + 1)
    there = ends > starts
    starts, ends = starts[there], ends[there]
    if not len(starts):
        return np.empty((0, 2), np.int64)
    # Between two starts are one line and empty lines, which do not add to its count.
    letters = np.add.reduceat(text > _LAST_BLANK, starts, dtype=np.int64)
    return np.stack([starts, ends], axis=1)[letters > 0]
