"""Lists of pairs taken apart by hand; whole sets are in test_nyu.py."""

from pathlib import Path

import pytest

from proteus.datasets.depth.listing import Line, Pair, list_folders, parse_split, read_split_file
from proteus.structures import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_lines_by_hand() -> None:
    text = "/a/1.jpg /a/1.png 518.8579\n\n  b/2.jpg\tb/2.png \nc/3.jpg None 518.8579\n"
    assert parse_split(text, "train.txt") == (
        [
            Line("/a/1.jpg", "/a/1.png", "518.8579", "train.txt, line 1"),
            Line("b/2.jpg", "b/2.png", "", "train.txt, line 3"),
        ],
        1,
    )


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg a.png focal", "a.jpg a.png 1 2"])
def test_a_line_of_another_form_is_told_with_its_number(line: str) -> None:
    with pytest.raises(DataError, match=r"train\.txt, line 2: .* is not IMAGE DEPTH FOCAL"):
        parse_split(f"a.jpg a.png\n{line}\n", "train.txt")


def test_files_lie_below_the_root_with_or_without_a_slash(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a/1.jpg", "a/1.png", "b/2.jpg", "b/2.png")))
    (tmp_path / "train.txt").write_text("b/2.jpg b/2.png\n/a/1.jpg /a/1.png\nc.jpg None\n")
    pairs, without = read_split_file(tmp_path / "train.txt", tmp_path)
    assert [Path(found.image).name for found in pairs] == ["1.jpg", "2.jpg"]  # sorted, as the toolbox does it
    assert without == 1
    assert pairs[0] == Pair(str(tmp_path / "a/1.jpg"), str(tmp_path / "a/1.png"), f"{tmp_path / 'train.txt'}, line 2")


def test_missing_files_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "1.jpg")
    (tmp_path / "train.txt").write_text("1.jpg 1.png\n2.jpg 2.png\n")
    with pytest.raises(DataError, match=r"1\.png is missing \(.*line 1\), and 2 more files"):
        read_split_file(tmp_path / "train.txt", tmp_path)


def test_bytes_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"train\.txt is not a text file"):
        read_split_file(tmp_path / "train.txt", tmp_path)


def test_folders_side_by_side(tmp_path: Path) -> None:
    images, depths = tmp_path / "images", tmp_path / "depths"
    touch(images / "b.jpg", images / "x/a.JPG", images / "notes.txt", depths / "b.png", depths / "x/a.png")
    pairs = list_folders(images, depths)
    assert [(Path(p.image).name, Path(p.depth).relative_to(depths).as_posix()) for p in pairs] == [
        ("b.jpg", "b.png"),
        ("a.JPG", "x/a.png"),
    ]
    (depths / "x/a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png is missing \(for .*a\.JPG\)"):
        list_folders(images, depths)
