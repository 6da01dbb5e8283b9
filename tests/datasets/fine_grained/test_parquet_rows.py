"""Rows of real Parquet files; sets of images in them are in test_parquet.py."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proteus.datasets.fine_grained.parquet_rows import ParquetRows, open_parquet


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of five rows, in row groups of two."""
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for number, path in enumerate(paths):
        table = pa.table({"value": [10 * number + row for row in range(5)], "other": ["x"] * 5})
        pq.write_table(table, path, row_group_size=2)
    return paths


def test_each_row_is_found_whatever_the_order(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    for file, group, row, value in [(1, 2, 0, 14), (0, 0, 1, 1), (1, 1, 0, 12), (1, 1, 1, 13), (0, 2, 0, 4)]:
        assert rows.read(file, group, row) == value


def test_a_group_is_decoded_once_while_it_is_read_in_order(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ParquetRows(files, "value")
    decoded = []
    decode = rows._decode
    monkeypatch.setattr(rows, "_decode", lambda file, group: decoded.append((file, group)) or decode(file, group))
    assert [rows.read(0, row // 2, row % 2) for row in range(5)] == [0, 1, 2, 3, 4]
    assert decoded == [(0, 0), (0, 1), (0, 2)]


def test_another_process_reads_for_itself(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    rows.read(0, 0, 0)
    copy = pickle.loads(pickle.dumps(rows))
    assert copy._group is None
    assert copy.read(1, 0, 1) == 11


def test_what_is_not_there_any_more_is_told(files: list[Path]) -> None:
    rows = ParquetRows(files, "value")
    with pytest.raises(ValueError, match=r"0\.parquet has changed: row group 0 has 2 rows"):
        rows.read(0, 0, 2)
    pq.write_table(pa.table({"value": [1]}), files[1])
    with pytest.raises(ValueError, match=r"1\.parquet: row group 2 is damaged"):
        rows.read(1, 2, 0)


def test_a_file_of_something_else_or_cut_short_is_told(files: list[Path]) -> None:
    files[0].write_bytes(files[0].read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"0\.parquet is not a Parquet file that can be read"):
        open_parquet(files[0])
    files[0].write_text("text")
    with pytest.raises(ValueError, match=r"0\.parquet is not a Parquet file"):
        ParquetRows(files, "value").read(0, 0, 0)
