"""``--gpus`` and ``--processes``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from proteus.apis.launch import run_on
from proteus.cli import launch, main, train

# What each process was given; rank 1 ends as its argument says.
SCRIPT = """
import os, signal, sys

names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
values = {name: os.environ.get(name) for name in names}
with open(f"{sys.argv[1]}/{values['RANK']}", "w") as file:
    print(values, sys.argv[2:], file=file)
if values["RANK"] == "1" and sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "parent" and values["RANK"] == "0":
    os.kill(os.getppid(), signal.SIGTERM)
if sys.argv[2] in ("parent", "kill") or (sys.argv[2] == "3" and values["RANK"] == "0"):
    signal.pause()
sys.exit(int(sys.argv[2]) if values["RANK"] == "1" else 0)
"""


@pytest.fixture
def ranks(tmp_path: Path):
    """Run the script on two processes; return the status, and the text of each rank."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def ranks(how: str, *arguments: str, cpu: bool = True) -> tuple[int, list[str]]:
        status = run_on(2, [str(tmp_path), how, *arguments], cpu, program=(sys.executable, str(script)))
        return status, [path.read_text() for path in sorted(tmp_path.glob("[0-9]"))]

    return ranks


@pytest.fixture
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_processes_get_the_arguments_and_variables_of_torchrun(ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    before = dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    status, texts = ranks("0", "--a", "b c")
    assert status == 0
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    for rank, text in enumerate(texts):
        values = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        values |= {"OMP_NUM_THREADS": "6", "CUDA_VISIBLE_DEVICES": ""}
        assert text == f"{values} ['0', '--a', 'b c']\n"
    assert len(texts) == 2


@pytest.mark.parametrize(("how", "expected"), [("3", 3), ("kill", 128 + signal.SIGKILL), ("parent", 143)])
def test_the_status_is_that_of_the_first_failure(
    how: str, expected: int, ranks, capfd: pytest.CaptureFixture[str]
) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread handles signals")
    assert ranks(how)[0] == expected
    assert capfd.readouterr() == ("", ""), "the agent prints nothing"


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
    assert not launch.wants_processes(Namespace(gpus=4)), "a verb that starts its processes itself"


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
