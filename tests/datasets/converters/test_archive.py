import shutil
import stat
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest

from proteus.datasets.converters.archive import Wanted, differences, files_of, opened, unpack
from proteus.structures import DataError

FILES = {f"set/{name}.bin": np.random.default_rng(i).bytes(5000) for i, name in enumerate("abc")}


def wanted(archive: ZipFile, target: Path) -> list[Wanted]:
    return [Wanted(member, target / member.filename) for member in files_of(archive)]


@pytest.mark.parametrize("name", ["../out.txt", "set/../../out.txt", "/etc/out.txt", "..\\out.txt", "C:/out.txt"])
def test_a_name_that_leads_out_is_refused_before_anything_is_written(name: str, zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {**FILES, name: b"x"})
    with opened(path) as archive, pytest.raises(DataError, match=r"out\.txt' would land outside; nothing was unpacked"):
        files_of(archive)


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with opened(tmp_path / "a.zip") as archive, pytest.raises(DataError, match="'set/link' is a link"):
        files_of(archive)


def test_what_macos_adds_is_left(zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"set/a.jpg": b"x", "__MACOSX/set/._a.jpg": b"y", "set/.DS_Store": b"z"})
    with opened(path) as archive:
        assert [member.filename for member in files_of(archive)] == ["set/a.jpg"]


def test_what_is_there_is_kept_and_half_a_file_done_again(zipped: Any, contents: Any, tmp_path: Path) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    (target / "set").mkdir(parents=True)
    (target / "set/a.bin").write_bytes(FILES["set/a.bin"])
    (target / "set/b.bin").write_bytes(FILES["set/b.bin"][:4000])
    (target / "set/.c.bin.tmp").write_bytes(b"from a run that was killed")
    before = (target / "set/a.bin").stat().st_mtime_ns
    with opened(path) as archive:
        assert unpack(archive, wanted(archive, target), "a set") == (2, 1)
        assert contents(target) == FILES
        assert (target / "set/a.bin").stat().st_mtime_ns == before
        assert unpack(archive, wanted(archive, target), "a set") == (0, 3)


def test_damage_is_named_and_what_came_before_it_is_kept(zipped: Any, contents: Any, tmp_path: Path) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    whole = path.read_bytes()
    with ZipFile(path) as archive:
        place = archive.getinfo("set/b.bin").header_offset + 200
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    with opened(path) as archive, pytest.raises(DataError, match=r"a\.zip: set/b\.bin is damaged .*get it again"):
        unpack(archive, wanted(archive, target), "a set")
    assert contents(target) == {"set/a.bin": FILES["set/a.bin"]}
    path.write_bytes(whole)
    with opened(path) as archive:
        assert unpack(archive, wanted(archive, target), "a set") == (2, 1)
    assert contents(target) == FILES


def test_an_archive_that_is_cut_short_or_none(zipped: Any, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.zip is no zip archive, or its end is missing"), opened(path):
        pass
    with pytest.raises(FileNotFoundError, match=r"none\.zip"), opened(tmp_path / "none.zip"):
        pass


def test_a_check_finds_what_is_missing_or_differs(zipped: Any, tmp_path: Path) -> None:
    path, target = zipped(tmp_path / "a.zip", FILES), tmp_path / "out"
    with opened(path) as archive:
        files = wanted(archive, target)
        unpack(archive, files, "a set")
        assert differences(archive, files, "a set") == []
        (target / "set/a.bin").unlink()
        (target / "set/c.bin").write_bytes(b"\0" * 5000)
        assert differences(archive, files, "a set") == [
            f"{target}/set/a.bin is missing",
            f"{target}/set/c.bin is not what {path} has as set/c.bin",
        ]


def test_too_little_room_is_told_before_anything_is_written(
    zipped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with opened(path) as archive, pytest.raises(DataError, match=r"has 0\.0 GB free, and 0\.0 GB are to be unpacked"):
        unpack(archive, wanted(archive, tmp_path / "out"), "a set")
    assert not (tmp_path / "out").exists()
