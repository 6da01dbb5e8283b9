"""Rows of Parquet files, read a row group at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def open_parquet(path: Path) -> Any:
    """Open a file (``pyarrow.parquet.ParquetFile``).

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: It is no Parquet file, or cut short.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs pyarrow: pip install -e '.[eval]'") from error
    try:
        return ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a Parquet file that can be read ({error})") from error


class ParquetRows:
    """A column of some Parquet files, row by row; one row group of one file is in memory at a time.

    Reading in order is as fast as the disk, reading at random decodes a whole row group for each row. Each process
    opens the files for itself, so that workers may be forked or spawned at any time.

    Args:
        paths: The files.
        column: The column.
    """

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        self.paths = list(paths)
        self.column = column
        self._group: Any = None
        self._held: tuple[int, int, int] | None = None

    def read(self, file: int, group: int, row: int) -> Any:
        """Read the value at a row of a row group of a file, as Python has it.

        Raises:
            ValueError: The file is damaged, or has changed.
        """
        if self._held != (os.getpid(), file, group):
            # Let go of the old one first, or there would be two.
            self._held = self._group = None
            # A pool of threads does not survive a fork.
            table = self._decode(file, group)
            self._group, self._held = table.column(0), (os.getpid(), file, group)
        if row >= len(self._group):
            raise ValueError(f"{self.paths[file]} has changed: row group {group} has {len(self._group)} rows")
        return self._group[row].as_py()

    def _decode(self, file: int, group: int) -> Any:
        with open_parquet(self.paths[file]) as opened:
            try:
                return opened.read_row_group(group, columns=[self.column], use_threads=False)
            # pyarrow's own errors derive from these: NotImplementedError for an encoding or a type that it cannot read.
            except (OSError, ValueError, IndexError, NotImplementedError) as error:
                raise ValueError(f"{self.paths[file]}: row group {group} is damaged ({error})") from error

    def __getstate__(self) -> dict[str, Any]:
        """Without what is held, which the other process reads for itself."""
        return {**self.__dict__, "_group": None, "_held": None}
