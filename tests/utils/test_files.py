"""Walks and text files; whole data sets of odd folders and names are in tests/campaign/test_list_files.py."""

import os
from pathlib import Path

import pytest

from proteus.structures import DataError
from proteus.utils.files import class_names, decode_text, is_junk, read_lines, walk
from proteus.utils.images import EXTENSIONS


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_are_sorted_and_folders_keep_their_times(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.JPG", "a/x/1.jpg", "a/notes.txt", "0.jpg", "a.jpg/inside.jpg")
    found = walk(tmp_path, (".jpg",))
    assert found.files == ["0.jpg", "a.jpg/inside.jpg", "a/x/1.jpg", "b/2.JPG"]
    assert found.folders == {name: os.stat(tmp_path / name).st_mtime_ns for name in ("", "a.jpg/", "a/", "a/x/", "b/")}
    assert (found.unreadable, found.repeated, found.junk) == ([], {}, 0)


def test_image_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.HEIC", "a/2.heic", "a/._3.heic", "4.avif", "5.jfif", "6.jp2", "notes.txt")
    found = walk(tmp_path, EXTENSIONS)
    assert found.files == ["5.jfif", "6.jp2"]
    assert found.skipped == ["1 .avif and 2 .heic files not read: convert them to JPEG or PNG"]
    assert walk(tmp_path, (".heic",)).unread == {".avif": 1}
    (tmp_path / "4.avif").unlink()
    (tmp_path / "1.HEIC").unlink()
    assert walk(tmp_path, EXTENSIONS).hint == "; 1 .heic file not read: convert it to JPEG or PNG"


def test_real_folders_keep_their_names_and_links_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "z/1.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z/loop").symlink_to(tmp_path)
    found = walk(tmp_path, (".jpg",))
    assert found.files == ["z/1.jpg"]
    assert found.repeated == {"a": "z", "z/loop": "."}


def test_a_folder_to_skip_is_known_under_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "in/1.jpg", "in/out/2.jpg")
    (tmp_path / "in/other").symlink_to(tmp_path / "in/out")
    assert walk(tmp_path / "in", (".jpg",), skip=[tmp_path / "in/../in/out", tmp_path / "none"]).files == ["1.jpg"]


def test_a_folder_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    assert walk(tmp_path / "none", (".jpg",)).unreadable == [f"{tmp_path}/none/"]


@pytest.mark.parametrize(
    "name", ["._a.jpg", ".DS_Store", "Thumbs.db", "thumbs.db", "__MACOSX", "desktop.ini", "@eaDir"]
)
def test_junk(name: str) -> None:
    assert is_junk(name)


@pytest.mark.parametrize("name", [".hidden.jpg", "_.jpg", "a._b.jpg", "MACOSX", "...jpg"])
def test_what_people_may_have_named_themselves(name: str) -> None:
    assert not is_junk(name)


def test_classes(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a/1.jpg", ".cache/1.jpg", "__MACOSX/1.jpg", "1.jpg")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "d").symlink_to(tmp_path / "none")
    assert class_names(tmp_path) == ["a", "b", "c"]


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\ntwo\xe2\x80\xa8three\x0c\r\nlast \xff")
    assert read_lines(tmp_path / "a.txt") == ["one", "", "two\u2028three\x0c", "last \udcff"]
    with pytest.raises(DataError, match=r"a\.txt is not a text file in UTF-8 \("):
        read_lines(tmp_path / "a.txt", strict=True)
    (tmp_path / "a.txt").write_bytes(b"")
    assert read_lines(tmp_path / "a.txt") == []


@pytest.mark.parametrize(
    "content", ["a\n".encode("utf-16"), "a\n".encode("utf-16-be"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"]
)
def test_what_is_not_text(content: bytes) -> None:
    with pytest.raises(DataError, match=r"list\.txt is not a text file"):
        decode_text(content, "list.txt")
