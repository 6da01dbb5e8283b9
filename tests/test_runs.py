"""The helpers that run the tools."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver
from typing import Any

import pytest
import runs


@pytest.mark.slow
def test_a_tool_runs_although_the_server_has_just_been_killed() -> None:
    assert runs.tool("inspect_checkpoint.py", "--help").returncode == 0
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGKILL)
    assert runs.tool("inspect_checkpoint.py", "--help").returncode == 0
    assert forkserver._forkserver._forkserver_pid != server  # type: ignore[attr-defined]


@pytest.mark.slow
def test_workers_of_a_fork_are_started_as_those_of_a_tool() -> None:
    """A fork of the server would otherwise start a server for them, which imports all modules again."""
    done = runs.run_code("import multiprocessing; print(multiprocessing.get_start_method())")
    assert done.stdout.split() == [multiprocessing.get_start_method()]


@pytest.mark.slow
def test_a_fork_answers_on_the_stream_that_it_reads() -> None:
    with runs.talk_to("import sys; print(sys.argv[1], flush=True); print(sys.stdin.readline())", 3) as (fork, stream):
        assert stream.readline() == "3\n"
        stream.write("four\n")
        stream.flush()
        assert stream.readline() == "four\n"
    assert fork.exitcode == 0


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_others() -> None:
    ranks = [
        runs.SERVER.Process(target=target, args=arguments)
        for target, arguments in ((time.sleep, (200,)), (sys.exit, (3,)), (sys.exit, (0,)))
    ]
    for rank in ranks:
        rank.start()
    assert runs._wait(ranks) == 3
    assert ranks[0].exitcode == -signal.SIGTERM


@pytest.mark.parametrize("failures", [2, 3])
def test_a_server_that_is_still_dying_is_waited_for(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [BrokenPipeError(), ConnectionRefusedError(), BrokenPipeError()][:failures]

    class Dying:
        def Process(self, **_: Any) -> Any:  # noqa: N802
            return self

        def start(self) -> None:
            if left:
                raise left.pop()

    monkeypatch.setattr(runs, "SERVER", Dying())
    monkeypatch.setattr("time.sleep", lambda _: None)
    if failures < 3:
        assert isinstance(runs._forked(), Dying)
    else:
        with pytest.raises(ConnectionError):
            runs._forked()
