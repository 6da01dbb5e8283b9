import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from runs import start

from proteus.datasets import ImageFolder, LabelledFolder
from proteus.datasets.proxy import folder_index
from proteus.datasets.proxy.folder_index import ImageList, decode_names, image_names

LONG_AGO = 1_600_000_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders with old modification times, so that their list is cached."""
    monkeypatch.setattr(folder_index, "_MIN_LISTING_TIME", 0.0)
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path / "cache"))
    for name in ("b/2.JPG", "a/x/1.png", "a/notes.txt", "0.webp"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    age(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Lines that are logged."""
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


def test_unchanged_folders_are_not_listed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = names(root)
    assert wanted == ["0.webp", "a/x/1.png", "b/2.JPG"]
    assert [path.suffix for path in kept(root)] == [".npz"]
    no_listing(monkeypatch)
    assert names(root) == wanted
    assert names(root / ".." / "set") == wanted


def test_image_files_that_are_not_read_are_logged_with_each_list(
    root: Path, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "b/3.HEIC").touch()
    age(root)
    names(root)
    assert [line for line in log_lines if "not read" in line] == [
        f"{root}: 1 .heic file not read: convert it to JPEG or PNG"
    ]
    no_listing(monkeypatch)
    log_lines.clear()
    names(root)
    assert log_lines == [f"{root}: 1 .heic file not read: convert it to JPEG or PNG"]


def test_nothing_is_written_into_the_image_folders(root: Path) -> None:
    before = sorted(root.rglob("*"))
    names(root)
    assert sorted(root.rglob("*")) == before
    assert root.stat().st_mtime == LONG_AGO


@pytest.mark.parametrize("change", ["come", "go", "rename", "deeper"])
def test_changes_are_detected(root: Path, change: str) -> None:
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


def test_changes_of_linked_folders_are_detected(root: Path) -> None:
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


def test_recently_changed_folders_are_not_cached(root: Path) -> None:
    """A second change within one tick of the file system would get the same time."""
    (root / "b/3.png").touch()
    assert len(names(root)) == 4
    assert kept(root) == []


def test_fast_listings_are_not_cached(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_index, "_MIN_LISTING_TIME", 60.0)
    names(root)
    assert kept(root) == []


def test_location_of_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_damaged_lists_are_logged_and_replaced(
    root: Path, damage: str, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
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
    log_lines.clear()
    assert names(root) == wanted
    assert [str(path) in line for line in log_lines if "cannot be read and is replaced" in line] == [True]
    no_listing(monkeypatch)
    assert names(root) == wanted


def test_an_unwritable_cache_is_logged_and_harmless(root: Path, log_lines: list[str]) -> None:
    (root.parent / "cache").write_text("in the way")
    assert len(names(root)) == 3
    assert ["the list could not be cached at" in line for line in log_lines] == [True]


def test_unreadable_folders_are_logged_and_not_taken_for_empty(
    root: Path, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith("b/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert names(root) == ["0.webp", "a/x/1.png"]
    assert log_lines == [f"dataset.data_root: folders that cannot be read: {root}/b/"]
    assert len(names(root)) == 3


def test_labels_and_subsets_use_the_cached_list(root: Path) -> None:
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


def test_concurrent_processes(root: Path) -> None:
    """Each gets the complete list, and one file remains."""
    for number in range(300):
        (root / f"b/{number}.png").touch()
    age(root)
    code = (
        "import sys; from pathlib import Path; from proteus.datasets.proxy import folder_index as f\n"
        "f._MIN_LISTING_TIME = 0\n"
        "for _ in range(20): print(len(f.decode_names(f.image_names(Path(sys.argv[1]), ('.png',), Path(sys.argv[2])))))"
    )
    script, logs = root.parent / "list.py", [root.parent / f"{number}.log" for number in range(3)]
    script.write_text(code)
    running = [start(script, root, root.parent / "cache", log=log) for log in logs]
    for process in running:
        process.join(300)
    found = [log.read_text() for log in logs]
    assert all([line for line in text.splitlines() if line.isdigit()] == ["301"] * 20 for text in found)
    assert [path.suffix for path in kept(root)] == [".npz"]


def test_other_endings_have_a_separate_list(root: Path, tmp_path: Path) -> None:
    assert decode_names(image_names(root, (".png",), tmp_path / "cache")) == ["a/x/1.png"]
    assert decode_names(image_names(root, (".webp", ".jpg"), tmp_path / "cache")) == ["0.webp", "b/2.JPG"]
    assert len(kept(root)) == 2


NAMES = ["a/1.png", "b c/ä.jpg", b"latin-\xe9.png".decode(errors="surrogateescape"), "new\nline.png"]


def test_names_survive_encoding() -> None:
    images = ImageList.of("/images/", NAMES)
    assert images.names() == NAMES
    assert [images[i] for i in range(4)] == list(images) == [{"img_path": f"/images/{name}"} for name in NAMES]
    assert images[-1] == images[3]
    assert pickle.loads(pickle.dumps(images))[2] == images[2]
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 4 images"):
            images[index]


def test_subsets_of_subsets() -> None:
    part = ImageList.of("r/", NAMES).labelled([5, 6, 7, 8]).take([3, 1, 0])
    assert [info["label"] for info in part] == [8, 6, 5]
    assert part[1] == {"img_path": "r/b c/ä.jpg", "label": 6}
    again = part[1:].take([1])
    assert list(again) == [{"img_path": "r/a/1.png", "label": 5}]
    assert again.names() == ["a/1.png"]
    assert [info["label"] for info in part.labelled([1, 2, 3])] == [1, 2, 3]


def test_empty_list() -> None:
    nothing = ImageList.of("r/", [])
    assert len(nothing) == 0
    assert list(nothing) == nothing.names() == []
    assert len(ImageList.of("r/", NAMES).take([])) == 0
