"""Rows of a table after interruptions and damage."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from proteus.evaluation.features.rows import RowWriter, open_rows, read_record
from proteus.structures import DataError, FullDiskError

ROWS = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)


def write(folder: Path, stop: int = 7, marked: int | None = None) -> None:
    """Write rows up to ``stop`` in blocks of two, of which ``marked`` are recorded."""
    with RowWriter(folder, read_record(folder), len(ROWS)) as writer:
        while writer.rows < stop:
            writer.append(ROWS[writer.rows : min(writer.rows + 2, stop)])
            if marked is None or writer.rows <= marked:
                writer.mark("state")


def read(folder: Path) -> np.ndarray:
    record = read_record(folder)
    assert record is not None
    return open_rows(folder, record)


def test_rows_round_trip_and_numpy_reads_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    np.testing.assert_array_equal(read(tmp_path), ROWS)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), ROWS)


def test_unrecorded_rows_are_written_again(tmp_path: Path) -> None:
    write(tmp_path, stop=6, marked=4)
    record = read_record(tmp_path)
    assert record is not None
    assert record.rows == 4
    write(tmp_path)
    np.testing.assert_array_equal(read(tmp_path), ROWS)


def test_a_file_without_a_record_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, stop=2, marked=0)
    assert read_record(tmp_path) is None
    write(tmp_path)
    np.testing.assert_array_equal(read(tmp_path), ROWS)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_space_is_reserved_before_the_first_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def full(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FullDiskError, match=r"features\.npy: no space left .*; it needs 0\.0 MB and .* free"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_free_space_is_checked_if_the_file_system_cannot_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    write(_made_folder(tmp_path / "a"))
    np.testing.assert_array_equal(read(tmp_path / "a"), ROWS)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(FullDiskError, match=r"features\.npy: no space left"):
        write(_made_folder(tmp_path / "b"))


def test_room_for_a_copy_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(rows: int) -> None:
        with RowWriter(tmp_path, read_record(tmp_path), len(ROWS), "with --out", copied=True) as writer:
            writer.append(ROWS[writer.rows : rows])
            writer.mark("state")

    def leave(free: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    words = r"features\.npy: no space left .*, or choose another folder with --out"
    leave(2 * ROWS.nbytes - 1)
    with pytest.raises(FullDiskError, match=words):
        append(4)
    assert not list(tmp_path.iterdir())
    leave(2 * ROWS.nbytes)
    append(4)
    leave(ROWS.nbytes - 1)
    with pytest.raises(FullDiskError, match=words):
        append(7)
    leave(ROWS.nbytes)
    append(7)
    np.testing.assert_array_equal(read(tmp_path), ROWS)


def change_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(path.read_bytes()[:-84] + b"\0" * 84),
        lambda path: change_byte(path, -5),
        lambda path: change_byte(path, 20),
        lambda path: np.save(path, ROWS.astype(np.float64)),
        lambda path: np.save(path, ROWS[:5]),
        lambda path: np.save(path, np.asfortranarray(ROWS)),
        lambda path: np.save(path, np.array([print], object), allow_pickle=True),
    ],
    ids=["gone", "empty", "cut", "header", "zeros", "value", "header byte", "dtype", "rows", "order", "pickle"],
)
def test_damaged_features_raise(tmp_path: Path, damage: Any) -> None:
    write(tmp_path)
    damage(tmp_path / "features.npy")
    with pytest.raises(DataError, match=r"features\.npy is damaged .*remove the folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 8},
        {"rows": -1},
        {"rows": 7.0},
        {"rows": True},
        {"rows": None},
        {"shape": [7, 2]},
        {"shape": [7, 2, "3"]},
        {"shape": None},
        {"checksum": "0"},
        {"images": None},
        {"format": 3},
        {"other": 1},
    ],
)
def test_a_record_with_invalid_values_raises(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=r"rows\.json is damaged .*remove the folder"):
        read_record(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"7", b"\xff", b"[" * 100_000])
def test_a_file_that_is_not_a_record_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.json is damaged"):
        read_record(tmp_path)


def _made_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder
