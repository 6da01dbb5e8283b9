import errno
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader, Dataset

from proteus.apis import ConfigError
from proteus.checkpoints import CheckpointError
from proteus.cli.run import ToolParser, add_config_arguments, run
from proteus.engine.hooks import CorruptProxySetError
from proteus.structures import UserError
from proteus.utils import files


class StoppedError(UserError):
    exit_status = 75


class TwoArgumentsError(UserError):
    """An error that torch cannot rebuild from its text, as it tries for errors of workers."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class Raising(Dataset):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        raise self.error


def raising(error: BaseException):
    def main(arguments: Namespace) -> int:
        raise error

    return main


def ended(main, capsys: pytest.CaptureFixture[str], arguments: Namespace | None = None) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        run(main, arguments or Namespace())
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(["model.x: unknown"], "small.py"),
        CheckpointError("w.pth: bad"),
        CorruptProxySetError("x"),
        FileNotFoundError("y"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_user_error_is_one_line_and_status_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(error), capsys) == (2, f"error: {error}\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "no such file"),
        (errno.EACCES, "permission denied"),
        (errno.EISDIR, "is a folder"),
        (errno.ENOTDIR, "a part of this path is a file"),
        (errno.EEXIST, "exists already"),
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.EIO, "input/output error"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_an_os_error_names_the_file(number: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = ended(raising(OSError(number, os.strerror(number), "/data/a.jpg")), capsys)
    assert (status, text.count("\n")) == (2, 1)
    assert text.startswith("error: /data/a.jpg: ")
    assert words in text


def test_a_full_disk_names_the_file_that_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: Namespace) -> int:
        with (tmp_path / "out.bin").open("wb") as file:
            assert file.writable()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    status, text = ended(main, capsys)
    assert status == 2
    assert text.startswith(f"error: {tmp_path / 'out.bin'}: no space left")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "CUDA out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "smaller batch"),
        (RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"), "fewer workers"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), "No module named 'h5py'; install"),
    ],
    ids=["MemoryError", "cuda", "cpu", "worker", "module"],
)
def test_missing_memory_or_packages_are_one_line(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = ended(raising(error), capsys)
    assert (status, text.count("\n")) == (2, 1)
    assert words in text


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("w.pth: ValueError: bad"), "w.pth: ValueError: bad"),
        (TwoArgumentsError("a.jpg", "broken"), "a.jpg: broken"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.jpg"), "x.jpg: no such file or folder"),
        (FileNotFoundError("no image in /data"), "no image in /data"),
    ],
    ids=["UserError", "two arguments", "OSError", "sentence"],
)
def test_an_error_of_a_worker_is_unwrapped(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    loader = DataLoader(Raising(error), num_workers=1)
    assert ended(lambda _: next(iter(loader)), capsys) == (2, f"error: {line}\n")


@pytest.mark.parametrize("error", [ZeroDivisionError("division\nby zero"), OSError("image file is truncated")])
def test_an_unexpected_error_is_one_line_and_keeps_its_traceback(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROTEUS_TRACEBACK", raising=False)
    status, text = ended(raising(error), capsys, Namespace(out=tmp_path))
    assert (status, text.count("\n")) == (1, 1)
    assert f"raised in {__file__}, line " in text
    assert type(error).__name__ in text
    (kept,) = tmp_path.glob("traceback_*.log")
    assert str(kept) in text
    assert "Traceback" in kept.read_text()


def test_a_bug_in_proteus_is_called_a_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proteus.utils.files.Path", None)  # any function of ours that then fails
    status, text = ended(lambda _: files.read_lines("x"), capsys, Namespace(out=tmp_path))
    assert status == 1
    assert "this is a bug in Proteus, please report it: TypeError" in text


def test_an_error_in_a_worker_is_named_without_its_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loader = DataLoader(Raising(TypeError("no such shape")), num_workers=1)
    status, text = ended(lambda _: next(iter(loader)), capsys, Namespace(out=tmp_path))
    assert status == 1
    assert f"raised in {__file__}, line " in text
    assert ": TypeError: no such shape; traceback in" in text


def test_a_bug_without_a_folder_keeps_its_traceback_in_a_temporary_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(MMLogger, "_instance_dict", {})  # of runs of other tests
    _, text = ended(raising(ZeroDivisionError()), capsys, Namespace(out=tmp_path / "missing"))
    (kept,) = tmp_path.glob("traceback_*.log")
    assert str(kept) in text


@pytest.mark.parametrize("way", ["option", "environment"])
def test_debug_shows_the_traceback(
    way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv("PROTEUS_TRACEBACK", "1")
    arguments = ToolParser().parse_args(["--debug"] if way == "option" else [])
    _, text = ended(raising(UserError("bad")), capsys, arguments)
    assert "Traceback" in text
    assert text.endswith("error: bad\n")


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(KeyboardInterrupt()), capsys) == (130, "interrupted\n")


def test_an_error_may_choose_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(StoppedError("saved iter_5.pth")), capsys) == (75, "error: saved iter_5.pth\n")


@pytest.mark.parametrize("status", [0, 1, None])
def test_status(status: int | None) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(lambda _: status, Namespace())
    assert exit_.value.code == (status or 0)


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    script = tmp_path / "much.py"
    script.write_text(
        "from argparse import Namespace\nfrom proteus.cli.run import run\n"
        "def main(_):\n    for _ in range(100_000): print('many words')\nrun(main, Namespace())\n"
    )
    done = subprocess.run(
        f"'{sys.executable}' '{script}' | head -1", shell=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "many words\n"
    assert "Error" not in done.stderr


def test_one_rank_prints_for_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.HashStore()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.distributed_c10d._get_default_store", lambda: store)
    printed = [ended(raising(UserError(text)), capsys)[1] for text in ("bad", "bad", "other")]
    assert printed == ["error: bad\n", "", "error: other\n"]


def test_arguments(tmp_path: Path) -> None:
    parser = add_config_arguments(ArgumentParser())
    found = parser.parse_args(
        ["c.py", "--work-dir", str(tmp_path), "--cfg-options", "a.b=1", "c=[1,2]", "d=None", "--local-rank", "1"]
    )
    assert found.config == "c.py"
    assert found.cfg_options == {"a.b": 1, "c": [1, 2], "d": None}
    assert (found.work_dir, found.launcher, found.local_rank) == (tmp_path, None, 1)
