"""``--gpus`` and ``--processes``; ``tests/apis/test_launch.py`` has what they start."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from proteus.cli import launch, main, train
from proteus.structures import UserError


@pytest.fixture
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_gpus_must_be_present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [launch.gpus(text) for text in ("0", "1", "2")] == [0, 1, 2]
    with pytest.raises(ArgumentTypeError, match="found 3, but this machine has 2; write a number up to 2"):
        launch.gpus("3")
    with pytest.raises(ArgumentTypeError, match="found '-1', expected a non-negative integer"):
        launch.gpus("-1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ArgumentTypeError, match="finds no GPU on this machine; for CPU processes write --processes"):
        launch.gpus("1")


@pytest.mark.parametrize(
    ("arguments", "count", "cpu"),
    [
        (["mine.py", "--gpus", "2", "--resume"], 2, False),
        (["--gpus=2", "mine.py", "--resume"], 2, False),
        (["mine.py", "--processes", "3", "--resume"], 3, True),
        (["mine.py", "--processes=3", "--resume"], 3, True),
    ],
)
@pytest.mark.usefixtures("_environment_kept")
def test_a_verb_runs_again_without_these_options(
    arguments: list[str], count: int, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.setattr(launch, "run_on", lambda *args, **options: calls.append((args, options)) or 5)
    with pytest.raises(SystemExit) as ended:
        main("train", arguments)
    assert ended.value.code == 5
    assert calls == [((count, ["train", "--launcher", "pytorch", "mine.py", "--resume"]), {"cpu": cpu})]


@pytest.mark.usefixtures("_environment_kept")
def test_one_process_does_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert not launch.wants_processes(train.parse_args(["mine.py"]))
    assert not launch.wants_processes(train.parse_args(["mine.py", "--gpus", "1"]))
    assert not launch.wants_processes(train.parse_args(["mine.py", "--processes", "1"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    del os.environ["CUDA_VISIBLE_DEVICES"]
    assert not launch.wants_processes(train.parse_args(["mine.py", "--gpus", "0"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not launch.wants_processes(train.parse_args(["mine.py", "--gpus", "2", "--check"]))
    assert not launch.wants_processes(Namespace(gpus=4)), "a verb that starts its processes itself"


@pytest.mark.usefixtures("_environment_kept")
def test_the_program_starts_again_to_leave_gpus_that_an_import_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], str | None]] = []
    monkeypatch.setattr(
        os, "execv", lambda path, argv: started.append((path, argv, os.environ.get("CUDA_VISIBLE_DEVICES")))
    )
    monkeypatch.setattr(sys, "orig_argv", ["python3", "tools/train.py", "mine.py", "--gpus", "0"])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for visible in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda visible=visible: visible)
        arguments = train.parse_args(["mine.py", "--gpus", "0"])
        assert not launch.wants_processes(arguments)
        launch.leave_gpus(arguments)
    assert started == [(sys.executable, [sys.executable, "tools/train.py", "mine.py", "--gpus", "0"], "")]
    del os.environ["CUDA_VISIBLE_DEVICES"]
    launch.leave_gpus(train.parse_args(["mine.py"]))
    assert len(started) == 1


def test_several_processes_choose_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    arguments = {"run_again": True, "gpus": None, "processes": 2}
    with pytest.raises(UserError, match="--device cuda:1: each of several processes has its device; leave it out"):
        launch.wants_processes(Namespace(**arguments, device="cuda:1"))
    assert launch.wants_processes(Namespace(**arguments, device="cpu"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "2", "--processes", "2"], "argument --processes: not allowed with argument --gpus"),
        (["--processes", "0"], "argument --processes: found '0', expected a positive integer"),
        (
            ["--processes", "2", "--launcher", "slurm"],
            "--launcher slurm starts the processes itself; leave out --gpus and --processes",
        ),
    ],
)
def test_what_is_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    with pytest.raises(SystemExit) as ended:
        main("train", ["mine.py", *arguments])
    text = capsys.readouterr().err
    assert ended.value.code == 2
    assert text.startswith(f"error: {words}")
    assert text.count("\n") == 1


@pytest.mark.slow
def test_an_error_of_all_processes_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("_base_ = 'nowhere.py'")
    with pytest.raises(SystemExit) as ended:
        main("train", ["mine.py", "--processes", "2"])
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert (
        printed.err == "error: mine.py: _base_: no such config file: 'nowhere.py'; no file in '.' has a similar name\n"
    )
