import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger

from proteus.datasets import ImageFolder, LabelledFolder
from proteus.datasets.proxy import folder_index
from proteus.datasets.proxy.folder_index import image_names
from proteus.datasets.proxy.image_list import split

LONG_AGO = 1_600_000_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders that nobody has changed for years, the list of which is worth keeping."""
    monkeypatch.setattr(folder_index, "_WORTH_KEEPING", 0.0)
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "cache"))
    for name in ("b/2.JPG", "a/x/1.png", "a/notes.txt", "0.webp"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    age(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def age(folder: Path) -> None:
    for path in (folder, *folder.rglob("*/")):
        os.utime(path, (LONG_AGO, LONG_AGO))


def names(root: Path, **options) -> list[str]:
    return ImageFolder(str(root), **options).names()


def no_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> None:
        raise AssertionError(f"{path} is listed")

    monkeypatch.setattr(os, "scandir", scandir)


def kept(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("*"))


def test_folders_that_did_not_change_are_not_listed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = names(root)
    assert wanted == ["0.webp", "a/x/1.png", "b/2.JPG"]
    assert [path.suffix for path in kept(root)] == [".npz"]
    no_listing(monkeypatch)
    assert names(root) == wanted
    assert names(root / ".." / "set") == wanted


def test_nothing_is_written_beside_the_images(root: Path) -> None:
    before = sorted(root.rglob("*"))
    names(root)
    assert sorted(root.rglob("*")) == before
    assert root.stat().st_mtime == LONG_AGO


@pytest.mark.parametrize("change", ["come", "go", "rename", "deeper"])
def test_whatever_changes_is_seen(root: Path, change: str) -> None:
    names(root)
    if change == "come":
        (root / "a/x/2.png").touch()
    elif change == "go":
        (root / "b/2.JPG").unlink()
    elif change == "rename":
        (root / "a/x/1.png").rename(root / "a/x/9.png")
    else:
        (root / "b/new").mkdir()
        (root / "b/new/3.png").touch()
    assert names(root) == names(root, index_cache=False)
    assert names(root) != ["0.webp", "a/x/1.png", "b/2.JPG"]


def test_a_linked_folder_that_changes_is_seen(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.png").touch()
    (root / "link").symlink_to(elsewhere)
    age(root)
    age(elsewhere)
    assert "link/1.png" in names(root)
    assert len(kept(root)) == 1
    (elsewhere / "2.png").touch()
    assert "link/2.png" in names(root)


def test_what_changed_a_moment_ago_is_not_kept(root: Path) -> None:
    """A second change within the file system's tick would leave the same time."""
    (root / "b/3.png").touch()
    assert len(names(root)) == 4
    assert kept(root) == []


def test_little_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_index, "_WORTH_KEEPING", 60.0)
    names(root)
    assert kept(root) == []


def test_where_it_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(root, index_cache=False)
    assert kept(root) == []
    names(root, index_cache=str(root.parent / "mine"))
    assert kept(root) == []
    assert len(list((root.parent / "mine").iterdir())) == 1
    no_listing(monkeypatch)
    assert len(names(root, index_cache=str(root.parent / "mine"))) == 3
    with pytest.raises(AssertionError, match="is listed"):
        names(root, index_cache=False)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty", "pickle"])
def test_a_damaged_list_is_made_anew_with_a_line_in_the_log(
    root: Path, damage: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = names(root)
    (path,) = kept(root)
    content = path.read_bytes()
    if damage == "flipped":
        where = content.index(b"x/1.png")
        content = content[:where] + b"y" + content[where + 1 :]
    elif damage == "pickle":
        np.savez(path, about=np.array([print], dtype=object))
        content = path.read_bytes()
    else:
        content = {"cut": content[: len(content) // 2], "text": b"{}", "empty": b""}[damage]
    path.write_bytes(content)
    told.clear()
    assert names(root) == wanted
    assert [str(path) in line for line in told if "cannot be read and is made anew" in line] == [True]
    no_listing(monkeypatch)
    assert names(root) == wanted


def test_a_cache_that_cannot_be_written_is_told_and_does_no_harm(root: Path, told: list[str]) -> None:
    (root.parent / "cache").write_text("in the way")
    assert len(names(root)) == 3
    assert ["the list could not be kept at" in line for line in told] == [True]


def test_folders_that_cannot_be_read_are_told_and_not_taken_for_empty(
    root: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith("b/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert names(root) == ["0.webp", "a/x/1.png"]
    assert told == [f"dataset.data_root: folders that cannot be read: {root}/b/"]
    assert len(names(root)) == 3


def test_labels_and_parts_come_from_the_kept_list_too(root: Path) -> None:
    (root / "0.webp").unlink()
    for number in range(20):
        (root / f"a/{number}.png").touch()
    age(root)
    options = {"data_root": str(root), "split": "train", "held_out": 0.5}
    for _ in range(2):
        images = LabelledFolder(data_root=str(root))
        assert [images.get_data_info(i)["label"] for i in (0, 20, 21)] == [0, 0, 1]
        assert images.classes_found == ["a", "b"]
        assert LabelledFolder(**options).names() == LabelledFolder(**options, index_cache=False).names()
        assert (
            ImageFolder(str(root), images_per_class=1, classes=1).names()
            == ImageFolder(str(root), images_per_class=1, classes=1, index_cache=False).names()
        )
    assert len(kept(root)) == 1


def test_processes_that_start_at_once(root: Path) -> None:
    """Each gets the whole list, and one file is left."""
    for number in range(300):
        (root / f"b/{number}.png").touch()
    age(root)
    code = (
        "import sys; from pathlib import Path; from proteus.datasets import folder_index as f; f._WORTH_KEEPING = 0\n"
        "for _ in range(20): print(len(f.split(f.image_names(Path(sys.argv[1]), ('.png',), Path(sys.argv[2])))))"
    )
    command = [sys.executable, "-c", code, str(root), str(root.parent / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate(timeout=300)[0] for process in running]
    assert all([line for line in text.splitlines() if line.isdigit()] == ["301"] * 20 for text in found)
    assert [path.suffix for path in kept(root)] == [".npz"]


def test_other_endings_are_another_list(root: Path, tmp_path: Path) -> None:
    assert split(image_names(root, (".png",), tmp_path / "cache")) == ["a/x/1.png"]
    assert split(image_names(root, (".webp", ".jpg"), tmp_path / "cache")) == ["0.webp", "b/2.JPG"]
    assert len(kept(root)) == 2
