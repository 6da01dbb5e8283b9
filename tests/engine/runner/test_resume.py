"""Choice of the checkpoint that a run resumes from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_runs import toy_runner

from proteus.checkpoints import CheckpointError
from proteus.engine.runner.resume import newest_complete

# Damage by a kill, a full disk or a bad disk.
DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "one bit": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another file": lambda path: path.write_text("not found"),
}


def _flipped(content: bytes) -> bytes:
    middle = content.index(torch.full((64,), 7.0).numpy().tobytes()) + 9
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def save(folder: Path, step: int, time: str | None = None) -> Path:
    path = folder / f"iter_{step}.pth"
    folder.mkdir(exist_ok=True)
    torch.save({"meta": {"time": time or f"20260101_{step:06}"}, "weight": torch.full((64,), 7.0)}, path)
    (folder / "last_checkpoint").write_text(str(path))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20, 30):
        save(tmp_path / "run", step)
    return tmp_path / "run"


def found(folder: Path) -> tuple[str | None, int]:
    path, skipped = newest_complete(folder)
    return path and path.name, len(skipped)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_and_reported(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder / "iter_30.pth")
    path, skipped = newest_complete(folder)
    assert path == folder / "iter_20.pth"
    assert len(skipped) == 1
    assert "iter_30.pth: damaged" in skipped[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_only_damaged_checkpoints_raise(folder: Path, damage: str) -> None:
    for path in folder.glob("*.pth"):
        DAMAGE[damage](path)
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read \(.*iter_30\.pth: damaged"):
        newest_complete(folder)


@pytest.mark.parametrize("text", ["", " \n", None, "/elsewhere/iter_30.pth", "iter_40.pth", "\udce9", "."])
def test_invalid_contents_of_last_checkpoint_are_ignored(folder: Path, text: str | None) -> None:
    (folder / "last_checkpoint").unlink()
    if text is not None:
        (folder / "last_checkpoint").write_bytes(os.fsencode(text))
    assert found(folder) == ("iter_30.pth", 0)


def test_moved_and_copied_folders(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert newest_complete(tmp_path / "copy").path == tmp_path / "copy/iter_30.pth"
    (tmp_path / "copy/iter_30.pth").unlink()  # which the record still names, in the first folder
    assert newest_complete(tmp_path / "copy").path == tmp_path / "copy/iter_20.pth"
    shutil.move(folder, tmp_path / "moved")
    assert newest_complete(tmp_path / "moved").path == tmp_path / "moved/iter_30.pth"


def test_a_checkpoint_saved_but_not_recorded_is_newest(folder: Path) -> None:
    (folder / "last_checkpoint").write_text(str(folder / "iter_20.pth"))
    assert found(folder) == ("iter_30.pth", 0)


@pytest.mark.parametrize("recorded", [True, False])
def test_checkpoints_of_an_earlier_longer_run_are_older(folder: Path, recorded: bool) -> None:
    save(folder, 5, time="20270101_000000")
    if not recorded:
        (folder / "last_checkpoint").unlink()
    assert found(folder) == ("iter_5.pth", 0)
    DAMAGE["truncated"](folder / "iter_5.pth")
    assert found(folder) == ("iter_30.pth", 1)


def test_folders_without_checkpoints(tmp_path: Path) -> None:
    assert newest_complete(tmp_path) == (None, [])
    assert newest_complete(tmp_path / "missing") == (None, [])
    (tmp_path / ".iter_3.pth.host-1.tmp").touch()
    (tmp_path / "iter_x.pth").touch()
    (tmp_path / "iter_3.pth").mkdir()
    assert newest_complete(tmp_path) == (None, [])


def test_a_run_logs_its_choice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_runner(tmp_path, max_iters=4).train()
    DAMAGE["truncated"](tmp_path / "iter_4.pth")
    runner = toy_runner(tmp_path, resume=True)
    runner.train()
    output = "".join(capfd.readouterr())
    assert f"skipping a damaged checkpoint: {tmp_path / 'iter_4.pth'}: damaged" in output
    assert f"resuming from {tmp_path / 'iter_2.pth'}" in output
    assert runner.iter == 6


def test_a_run_without_checkpoints_starts_at_0(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    toy_runner(tmp_path, resume=True, max_iters=1).train()
    output = "".join(capfd.readouterr())
    assert f"no checkpoint in {tmp_path}: starting from iteration 0" in output
    assert "None" not in "".join(line for line in output.splitlines() if "resum" in line.lower() and "Hook" not in line)
