"""Rows of features on disk: space is reserved, rows are appended, and a checksum verifies them when read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from proteus.structures import DataError, FullDiskError
from proteus.utils import disk_full_errors, load_npy, write_json

FEATURES, RECORD = "features.npy", "rows.json"
FORMAT = 2
_CHUNK = 1 << 24
_MB = 1e6
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Record:
    """Contents of ``rows.json``: which rows of a table are complete.

    It is written after the rows are on disk, so that a process killed at any moment may lose rows but never counts a
    row that is missing.

    Attributes:
        rows: Number of complete rows, from the first.
        shape: ``(N, T, D)`` of the full table.
        checksum: CRC-32 of the bytes of these rows.
        images: Digest of the sizes and modification times of the image files of these rows.
    """

    rows: int
    shape: tuple[int, ...]
    checksum: int
    images: str


def read_record(folder: Path) -> Record | None:
    """Read the record of a table; None if it is missing or of an earlier version without checksums.

    Raises:
        DataError: The record is damaged.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if set(content) == {"rows"}:
            return None
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        record = Record(**{**content, "shape": tuple(content["shape"])})
        counts = (record.rows, record.checksum, *record.shape)
        if not all(type(count) is int and count >= 0 for count in counts) or len(record.shape) != 3:
            raise ValueError(f"rows={record.rows!r}, shape={record.shape!r}")
        if record.rows > record.shape[0] or not isinstance(record.images, str):
            raise ValueError(f"{record.rows} rows of {record.shape[0]}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    return record


def open_rows(folder: Path, record: Record) -> np.ndarray:
    """Map the features ``(N, T, D)`` of a table from disk after verifying the complete rows.

    Raises:
        DataError: The file is missing, truncated or has another shape, or the checksum differs.
    """
    path = folder / FEATURES
    table = _mapped(path)
    if table.ndim == 2 and record.shape[1] == 1:  # table_files.move_npy was interrupted
        table = table[:, None]
    if table.shape != record.shape or table.dtype != np.float32 or not table.flags.c_contiguous:
        raise damaged(path, f"has {table.dtype} {table.shape}, but {RECORD} has float32 {record.shape}")
    if _checksum(path, table.offset, _bytes(record.shape[1:]) * record.rows) != record.checksum:
        raise damaged(path, f"the checksum of its first {record.rows:,} rows differs")
    return table


def damaged(path: Path, what: str) -> DataError:
    """Make the error for a damaged file of a table."""
    return DataError(f"{path} is damaged ({what}): remove the folder {path.parent} and run the same command again")


class RowWriter:
    """Context manager that appends rows of features to a table.

    Space for the full table is reserved when the file is created. Rows are written with ordinary writes, not through a
    memory map, so that a full disk raises an error instead of killing the process with a signal.

    Args:
        folder: Existing folder of the table.
        record: Record of the existing rows; None creates a new file.
        total: Number of rows of the full table.
        remedy: How to choose another folder, for the message about a full disk.
        copied: The finished table will be copied to another file on this disk: check that there is room for both.
    """

    def __init__(
        self, folder: Path, record: Record | None, total: int, remedy: str = "with --cache", copied: bool = False
    ) -> None:
        self.remedy = remedy
        self.copied = copied
        self.path = folder / FEATURES
        self.total = total
        self.record = record
        self._file: BinaryIO | None = None
        self._checksum = record.checksum if record else 0
        self.rows = record.rows if record else 0

    def __enter__(self) -> RowWriter:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; rows since the last :meth:`mark` are not recorded."""
        if self._file is not None:
            with disk_full_errors(self.path):
                self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Write rows ``(B, T, D)`` float32.

        Raises:
            FullDiskError: The disk has too little space for the table.
            DataError: The rows in the file have another shape.
        """
        if self._file is None:
            self._open((self.total, *rows.shape[1:]))
        assert self._file is not None
        assert self.record is not None
        if rows.shape[1:] != self.record.shape[1:]:
            raise damaged(self.path, f"rows of shape {self.record.shape[1:]}, where {rows.shape[1:]} are needed")
        content = np.ascontiguousarray(rows, np.float32).tobytes()
        with disk_full_errors(self.path):
            self._file.write(content)
        self._checksum = zlib.crc32(content, self._checksum)
        self.rows += len(rows)

    def mark(self, images: str) -> None:
        """Flush the rows to disk and record them.

        Args:
            images: Digest of the image files; see :class:`Record`.
        """
        if self._file is None or self.record is None:
            return
        with disk_full_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        record = Record(self.rows, self.record.shape, self._checksum, images)
        write_json(self.path.with_name(RECORD), {"format": FORMAT, **asdict(record)})

    def _open(self, shape: tuple[int, ...]) -> None:
        with disk_full_errors(self.path):
            if self.record is not None:
                if self.copied:
                    _check_room(self.path, _bytes(shape), self.remedy)
                offset = _mapped(self.path).offset
                self._file = self.path.open("r+b")
                self._file.seek(offset + self.rows * _bytes(self.record.shape[1:]))
                return
            # Remove the record first: it must not count rows of a deleted file.
            self.path.with_name(RECORD).unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            if self.copied:
                _check_room(self.path, 2 * _bytes(shape), self.remedy)
            self._file = self.path.open("w+b")
            header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.flush()
            self.record = Record(0, shape, 0, "")
            try:
                _reserve(self._file, self.path, os.fstat(self._file.fileno()).st_size + _bytes(shape), self.remedy)
            except FullDiskError:
                self.path.unlink(missing_ok=True)
                raise


def _reserve(file: BinaryIO, path: Path, size: int, remedy: str) -> None:
    """Give a file its final size and, where the file system can, the disk space for it.

    Raises:
        FullDiskError: The disk has too little space for the file.
    """
    with disk_full_errors(path, _needs(path, size, remedy)):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            # The system or file system cannot reserve space.
            _check_room(path, size, remedy)
            file.truncate(size)


def _check_room(path: Path, size: int, remedy: str) -> None:
    """Raise :class:`FullDiskError` if fewer than ``size`` bytes are free."""
    if size > shutil.disk_usage(path.parent).free:
        with disk_full_errors(path, _needs(path, size, remedy)):
            raise OSError(_FULL[0], os.strerror(_FULL[0]))


def _needs(path: Path, size: int, remedy: str) -> str:
    free = shutil.disk_usage(path.parent).free
    needs = f"it needs {size / _MB:,.1f} MB and {free / _MB:,.1f} MB are free"
    return f"{needs}: make room, or choose another folder {remedy}"


def _mapped(path: Path) -> Any:
    try:
        return load_npy(path)
    except (FileNotFoundError, DataError) as error:
        raise damaged(path, str(error)) from error


def _bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(np.float32).itemsize


def _checksum(path: Path, offset: int, size: int) -> int:
    found = 0
    with path.open("rb") as file:
        file.seek(offset)
        while size > 0 and (content := file.read(min(_CHUNK, size))):
            found = zlib.crc32(content, found)
            size -= len(content)
    return found
