import shutil
import stat
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest

from proteus.datasets.converters.archive import (
    FileCounts,
    UnpackedFile,
    find_differences,
    format_summary,
    list_members,
    open_archive,
    unpack,
)
from proteus.structures import DataError

FILES = {f"set/{name}.bin": np.random.default_rng(i).bytes(5000) for i, name in enumerate("abc")}


def files_of(archive: ZipFile, target: Path) -> list[UnpackedFile]:
    return [UnpackedFile(member, target / member.filename) for member in list_members(archive)]


@pytest.mark.parametrize("name", ["../out.txt", "set/../../out.txt", "/etc/out.txt", "..\\out.txt", "C:/out.txt"])
def test_names_outside_the_target_are_refused_before_anything_is_written(
    name: str, zipped: Any, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "a.zip", {**FILES, name: b"x"})
    with (
        open_archive(path) as archive,
        pytest.raises(DataError, match=r"out\.txt' would land outside; nothing was unpacked"),
    ):
        list_members(archive)


def test_links_are_refused(tmp_path: Path) -> None:
    link = ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(DataError, match="'set/link' is a link"):
        list_members(archive)


def test_files_added_by_macos_are_skipped(zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"set/a.jpg": b"x", "__MACOSX/set/._a.jpg": b"y", "set/.DS_Store": b"z"})
    with open_archive(path) as archive:
        assert [member.filename for member in list_members(archive)] == ["set/a.jpg"]


def test_complete_files_are_kept_and_partial_files_are_unpacked_again(
    zipped: Any, contents: Any, tmp_path: Path
) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    (target / "set").mkdir(parents=True)
    (target / "set/a.bin").write_bytes(FILES["set/a.bin"])
    (target / "set/b.bin").write_bytes(FILES["set/b.bin"][:4000])
    (target / "set/.c.bin.tmp").write_bytes(b"from a run that was killed")
    before = (target / "set/a.bin").stat().st_mtime_ns
    with open_archive(path) as archive:
        assert unpack(archive, files_of(archive, target), "a set") == (2, 1)
        assert contents(target) == FILES
        assert (target / "set/a.bin").stat().st_mtime_ns == before
        assert unpack(archive, files_of(archive, target), "a set") == (0, 3)


def test_a_damaged_member_is_named_and_earlier_files_are_kept(zipped: Any, contents: Any, tmp_path: Path) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    whole = path.read_bytes()
    with ZipFile(path) as archive:
        place = archive.getinfo("set/b.bin").header_offset + 200
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with (
        open_archive(path) as archive,
        pytest.raises(DataError, match=r"a\.zip: set/b\.bin is damaged .*download the archive again"),
    ):
        unpack(archive, files_of(archive, target), "a set")
    assert contents(target) == {"set/a.bin": FILES["set/a.bin"]}
    path.write_bytes(whole)
    with open_archive(path) as archive:
        assert unpack(archive, files_of(archive, target), "a set") == (2, 1)
    assert contents(target) == FILES


def test_truncated_and_missing_archives(zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.zip is not a zip archive, or is truncated"), open_archive(path):
        pass
    with pytest.raises(FileNotFoundError, match=r"none\.zip"), open_archive(tmp_path / "none.zip"):
        pass


def test_check_finds_missing_and_changed_files(zipped: Any, tmp_path: Path) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    with open_archive(path) as archive:
        files = files_of(archive, target)
        unpack(archive, files, "a set")
        assert find_differences(archive, files, "a set") == []
        (target / "set/a.bin").unlink()
        (target / "set/c.bin").write_bytes(b"\0" * 5000)
        assert find_differences(archive, files, "a set") == [
            f"{target}/set/a.bin is missing",
            f"{target}/set/c.bin differs from set/c.bin in {path}",
        ]


def test_too_little_free_space_is_reported_before_anything_is_written(
    zipped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with open_archive(path) as archive, pytest.raises(DataError, match=r"has 0\.0 GB free; unpacking needs 0\.0 GB"):
        unpack(archive, files_of(archive, tmp_path / "out"), "a set")
    assert not (tmp_path / "out").exists()


def test_summary_of_a_conversion_and_of_a_check() -> None:
    counts, out = FileCounts(written=1200, kept=3), Path("out")
    assert format_summary("NYU", out, counts, [], check=False) == "NYU: 1,200 files written, 3 were there, in out"
    assert format_summary("NYU", out, counts, [], check=True) == "NYU: out is complete"


def test_summary_lists_the_first_ten_problems_and_counts_all() -> None:
    problems = [f"p{number}" for number in range(12)]
    lines = format_summary("NYU", Path("out"), FileCounts(0, 0), problems, check=True).splitlines()
    assert lines[:10] == [f"p{number}" for number in range(10)]
    assert lines[10] == "... and 2 more"
    assert lines[11].startswith("NYU: 12 files of out are missing or differ")
