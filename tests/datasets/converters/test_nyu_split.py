"""Lists of pairs in the toolbox's layout."""

from __future__ import annotations

from pathlib import Path

from proteus.datasets.converters.nyu_split import Frame, list_file, list_problems, write_list
from proteus.datasets.depth.pairs import parse_split

FRAMES = [Frame("b/rgb_1.jpg", "b/sync_depth_1.png"), Frame("a/rgb_2.jpg", "a/sync_depth_2.png", "500.0")]


def test_written_lists_are_read_back_sorted(tmp_path: Path) -> None:
    write_list(tmp_path / "nyu", "train", FRAMES)
    path = list_file(tmp_path / "nyu", "train")
    assert path.name == "nyu_train.txt"
    lines, without = parse_split(path.read_text(), "list")
    assert [(line.image, line.depth, line.focal) for line in lines] == [
        ("/a/rgb_2.jpg", "/a/sync_depth_2.png", "500.0"),
        ("/b/rgb_1.jpg", "/b/sync_depth_1.png", "518.8579"),
    ]
    assert without == 0


def test_missing_and_different_lists_are_reported(tmp_path: Path) -> None:
    assert "nyu_test.txt is missing" in list_problems(tmp_path, "test", FRAMES)[0]
    write_list(tmp_path, "test", FRAMES)
    assert list_problems(tmp_path, "test", FRAMES[::-1]) == []
    assert "lists other pairs" in list_problems(tmp_path, "test", FRAMES[:1])[0]
