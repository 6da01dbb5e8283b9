from pathlib import Path

import pytest

from proteus.datasets.fine_grained.listing import Listed, class_folders, missing_images, read_rows


def test_rows_are_split_at_whitespace_except_in_the_last_column(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"1 Boeing 707-320\r\n\n  2\t A300 \n")
    rows = list(read_rows(tmp_path / "list.txt", 2))
    assert [row.fields for row in rows] == [["1", "Boeing 707-320"], ["2", "A300"]]
    assert [row.where for row in rows] == [f"{tmp_path}/list.txt, line {number}" for number in (1, 3)]


def test_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"list\.txt is not a text file"):
        list(read_rows(tmp_path / "list.txt", 1))


def test_hidden_folders_and_other_files_are_skipped(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/1.txt", "a/x.ppm", ".cache/1.jpg", "1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert class_folders(tmp_path) == {"a": ["x.ppm"], "b": ["1.png", "2.JPG"]}


def test_images_inside_larger_files_are_not_checked(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    listed = [
        Listed(f"{tmp_path}/a.jpg", 0, ""),
        Listed(f"{tmp_path}/b.jpg", 0, ""),
        Listed(f"{tmp_path}/nowhere/c.jpg", 0, ""),
        Listed(f"{tmp_path}/archive/0", 0, "", {"row": 0}),
    ]
    assert missing_images(listed) == listed[1:3]
