"""Features of image files as ``.npy`` or ``.parquet``, with the names of the files and a description."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from proteus.structures import DataError
from proteus.utils import atomic_path, disk_full_errors, load_npy, read_json, write_json, write_text

_CHUNK_BYTES = 1 << 26
_KEY = b"proteus"


def names_path(path: Path) -> Path:
    """Return the file with the names of an ``.npy``'s rows."""
    return path.with_suffix(".files.txt")


def about_path(path: Path) -> Path:
    """Return the file with the description of an ``.npy``."""
    return path.with_suffix(".about.json")


def check_names(path: Path, names: Sequence[str]) -> None:
    """Check that the names of files can be written, before an image is read.

    Raises:
        DataError: A name has a line break, which a list with one name per line cannot hold.
    """
    broken = [name for name in names if "\n" in name or "\r" in name]
    if broken and path.suffix.lower() == ".npy":
        raise DataError(f"{broken[0]!r}: its name has a line break; rename the file, or write .parquet")


def write_npy(
    path: Path, rows: np.ndarray, kept: np.ndarray, shape: tuple[int, ...], names: Sequence[str], about: dict[str, Any]
) -> None:
    """Write ``<name>.files.txt``, ``<name>.about.json`` and, when they are on disk, ``path``.

    Args:
        path: File to write.
        rows: ``(M, T, D)`` float32, such as a mapped file.
        kept: Positions of the rows to write, in order.
        shape: Shape of the written array; each of its rows has the size of one of ``rows``.
        names: Names of the files of the kept rows.
        about: Description, JSON values.

    Raises:
        FullDiskError: The disk has too little space.
    """
    write_text(names_path(path), "".join(f"{name}\n" for name in names))
    write_json(about_path(path), about, indent=1)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_header(shape))
        for chunk in _chunks(rows, kept):
            file.write(np.ascontiguousarray(rows[chunk]).tobytes())


def move_npy(path: Path, table: Path, shape: tuple[int, ...], names: Sequence[str], about: dict[str, Any]) -> bool:
    """Do what :func:`write_npy` does with all rows of a table, by renaming the table's file.

    The file gets the header of ``shape`` first. A process killed before the rename leaves a table that
    :func:`~proteus.evaluation.features.rows.open_rows` reads.

    Args:
        path: File to write, in a folder of the same file system.
        table: ``features.npy`` of a complete table, which is then gone.
        shape: Shape of the written array, with as many values as the table.
        names: Names of the files of the rows.
        about: Description, JSON values.

    Returns:
        False, with nothing changed, if the new header has another length.

    Raises:
        FullDiskError: The disk has too little space for the other two files.
    """
    header = _header(shape)
    if load_npy(table).offset != len(header):
        return False
    write_text(names_path(path), "".join(f"{name}\n" for name in names))
    write_json(about_path(path), about, indent=1)
    with disk_full_errors(path):
        with table.open("r+b") as file:
            file.write(header)
            file.flush()
            os.fsync(file.fileno())
        os.replace(table, path)
        folder = os.open(path.parent, os.O_RDONLY)
        with suppress(OSError):  # some file systems cannot flush a folder
            os.fsync(folder)
        os.close(folder)
    return True


def write_parquet(
    path: Path, rows: np.ndarray, kept: np.ndarray, shape: tuple[int, ...], names: Sequence[str], about: dict[str, Any]
) -> None:
    r"""Write the columns ``file`` and ``embedding`` (fixed-size lists of float32); the description is metadata.

    The arguments are those of :func:`write_npy`. Bytes of names that are not UTF-8 become ``\udcff``.

    Raises:
        FullDiskError: The disk has too little space.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.float32()
    for size in reversed(shape[1:]):
        kind = pa.list_(kind, size)
    schema = pa.schema([("file", pa.string()), ("embedding", kind)], metadata={_KEY: json.dumps(about)})
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        done = 0
        for chunk in _chunks(rows, kept):
            column = pa.array(np.ascontiguousarray(rows[chunk]).ravel())
            for size in reversed(shape[1:]):
                column = pa.FixedSizeListArray.from_arrays(column, size)
            files = [name.encode("utf-8", "backslashreplace").decode() for name in names[done : done + len(chunk)]]
            writer.write_table(pa.Table.from_arrays([pa.array(files, pa.string()), column], schema=schema))
            done += len(chunk)


def described(path: Path) -> dict[str, Any] | None:
    """Read the description of a complete file; None if the file does not exist or is incomplete.

    Raises:
        DataError: The file is damaged, or was not written by this module.
    """
    if not path.is_file():
        return None
    remedy = f"remove {path}, or name another file"
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            about = json.loads((pq.read_schema(path).metadata or {})[_KEY])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} exists and does not hold features of proteus embed; {remedy}") from error
    else:
        try:
            about = read_json(about_path(path), remedy)
            shape = load_npy(path).shape
        except FileNotFoundError:
            raise DataError(f"{path} exists without {about_path(path).name}; {remedy}") from None
        if isinstance(about, dict) and list(shape) != about.get("shape"):
            raise DataError(f"{path} holds {shape}, but its description {about.get('shape')}; {remedy}")
    if not isinstance(about, dict) or not isinstance(about.get("failed"), list) or "shape" not in about:
        raise DataError(f"{path}: its description is damaged; {remedy}")
    return about


def _header(shape: tuple[int, ...]) -> bytes:
    content = BytesIO()
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def _chunks(rows: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """Split positions into parts of moderate size in memory."""
    size = max(1, _CHUNK_BYTES // max(1, rows[0].nbytes))
    return [kept[start : start + size] for start in range(0, len(kept), size)]
