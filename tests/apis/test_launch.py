"""Several processes of this machine: what each is given, and the status of all."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from proteus.apis.launch import run_on

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
