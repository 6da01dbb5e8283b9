import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import run_code
from safetensors.torch import save_file

from proteus.structures import FullDiskError
from proteus.utils import atomic_path, disk_full_errors, write_json, write_text
from proteus.utils.atomic import is_disk_full


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half" * 10_000 + "\ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert left(tmp_path) == ["a.txt"]


def test_the_new_file_appears_at_the_end_only(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert left(tmp_path) == ["a.txt"]


@pytest.mark.usefixtures("umask_027")
def test_the_mode_follows_the_umask_whatever_the_library_does(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new.safetensors") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)  # a library that makes its file readable by the owner alone
    assert stat.S_IMODE((tmp_path / "new.safetensors").stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a.txt").chmod(0o604)
    write_text(tmp_path / "a.txt", "new")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o604


def test_a_killed_process_leaves_no_file_for_good_and_a_running_one_keeps_its_own(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from proteus.utils import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    run_code(code, tmp_path / "a.txt")
    (stale,) = left(tmp_path)
    running = stale.replace(stale.rpartition("-")[2], f"{os.getppid()}.tmp")
    (tmp_path / running).touch()
    write_text(tmp_path / "a.txt", "new")
    assert left(tmp_path) == sorted([running, "a.txt"])


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FullDiskError, match=r"big\.bin: no space left on the disk"), atomic_path(tmp_path / "big.bin"):
        Path("/dev/full").write_text("x")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . unexpected pos 3712 vs 3664",
        "600 requested and 496 written",
    ],
    ids=["safetensors", "torch", "numpy"],
)
def test_a_full_disk_is_recognised_in_the_words_of_another_library(words: str) -> None:
    with pytest.raises(FullDiskError, match=r"student\.safetensors"), disk_full_errors("student.safetensors"):
        raise RuntimeError(words)


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [os.fsdecode(b"\xe9.jpg")], ensure_ascii=False)
    assert (tmp_path / "a.json").read_bytes() == b'["\xe9.jpg"]\n'


def test_a_file_that_can_be_made_again_is_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its temporary name is always the same: what a killed writer left is overwritten."""
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("flushed"))
    (tmp_path / ".a.png.tmp").write_bytes(b"half of a picture, and longer than the next one")
    with atomic_path(tmp_path / "a.png", durable=False) as temporary:
        assert temporary.name == ".a.png.tmp"
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.png").read_bytes() == b"new"
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.png", durable=False):
        raise RuntimeError
    assert left(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no words"), True),
        (OSError(errno.EDQUOT, "no words"), True),
        (FullDiskError("a.pth: no words"), True),
        (RuntimeError("write failed: No space left on device"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("I/O operation on closed file"), False),
    ],
    ids=str,
)
def test_a_full_disk_is_recognised_by_number_or_words(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full
