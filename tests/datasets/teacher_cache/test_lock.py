"""Real processes that want one folder."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from proteus.datasets.teacher_cache import LockedCacheError, alone
from proteus.datasets.teacher_cache.lock import LOCK

FORK = multiprocessing.get_context("fork")


def _hold(folder: Path, pipe: Connection) -> None:
    """Say whether the folder could be had, and keep it until told otherwise."""
    pipe.recv()
    try:
        with alone(folder):
            pipe.send("mine")
            pipe.recv()
    except LockedCacheError as error:
        pipe.send(str(error))


class Holder:
    """A process that wants the folder once it is told to."""

    def __init__(self, folder: Path) -> None:
        self.pipe, other = FORK.Pipe()
        self.process = FORK.Process(target=_hold, args=(folder, other), daemon=True)
        self.process.start()

    def go(self) -> None:
        self.pipe.send("go")

    def said(self) -> str:
        assert self.pipe.poll(30)
        return self.pipe.recv()

    def end(self, kill: bool = False) -> None:
        if kill:
            os.kill(self.process.pid, signal.SIGKILL)
        elif self.process.is_alive():
            with suppress(BrokenPipeError):  # one that was refused has ended by itself
                self.pipe.send("end")
        self.process.join(30)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """A process that holds ``tmp_path / "cache"``."""
    holder = Holder(tmp_path / "cache")
    holder.go()
    assert holder.said() == "mine"
    yield holder
    if holder.process.is_alive():
        holder.process.kill()
        holder.process.join()


def write_lock(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {"pid": os.getppid(), "host": socket.gethostname(), "started": "2026-01-02 03:04:05 UTC", **changes}
    (folder / LOCK).write_text(json.dumps(content))
    return folder / LOCK


def dead_pid() -> int:
    process = FORK.Process(target=int)
    process.start()
    process.join()
    return process.pid


def test_the_second_process_is_told_of_the_first(holder: Holder, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    year = time.strftime("%Y-", time.gmtime())
    with pytest.raises(LockedCacheError) as told, alone(folder):
        pass
    words = f"process {holder.process.pid} on {socket.gethostname()}, started {year}"
    assert words in str(told.value)
    assert f"remove {folder / LOCK}" in str(told.value)
    assert (folder / LOCK).is_file()
    holder.end()
    assert not list(folder.iterdir())
    with alone(folder):
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert not list(folder.iterdir())


def test_a_killed_process_is_replaced_with_a_word(
    holder: Holder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holder.end(kill=True)
    folder = tmp_path / "cache"
    with alone(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]
        assert json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert not list(folder.iterdir())
    (line,) = capfd.readouterr().err.splitlines()
    assert f"process {holder.process.pid} on {socket.gethostname()}" in line
    assert "ended in the middle of its build" in line


def test_a_build_that_fails_gives_the_folder_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone(tmp_path):
        raise ZeroDivisionError
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("left_behind", [False, True], ids=["free", "left behind"])
def test_of_many_at_once_one_gets_it(tmp_path: Path, left_behind: bool) -> None:
    folder = tmp_path / "cache"
    for _ in range(3):
        if left_behind:
            write_lock(folder, pid=dead_pid())
        holders = [Holder(folder) for _ in range(6)]
        for holder in holders:
            holder.go()
        said = [holder.said() for holder in holders]
        assert said.count("mine") == 1
        winner = holders[said.index("mine")]
        named = f"process {winner.process.pid} on "
        assert all(named in text for text in said if text != "mine")
        for holder in holders:
            holder.end()
        assert not list(folder.iterdir())


def test_of_two_that_find_a_dead_one_the_second_sees_the_first(tmp_path: Path) -> None:
    path = write_lock(tmp_path, pid=dead_pid())
    second = Holder(tmp_path)  # before the file is open here, or it would have it, too
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the first, about to take over
        second.go()
        assert not second.pipe.poll(0.5)
        path.rename(tmp_path / "dead")
        write_lock(tmp_path)  # of a process that lives: the one that runs the tests
    assert f"process {os.getppid()} on " in second.said()
    second.end()
    assert json.loads(path.read_text())["pid"] == os.getppid()


def test_nothing_is_known_of_another_machines_process(tmp_path: Path) -> None:
    path = write_lock(tmp_path, pid=dead_pid(), host="elsewhere")
    with (
        pytest.raises(LockedCacheError, match=r"on elsewhere, started 2026-01-02 03:04:05 UTC.* remove "),
        alone(tmp_path),
    ):
        pass
    path.unlink()  # as the message says
    with alone(tmp_path):
        pass


def test_a_process_that_got_the_number_of_a_dead_one(tmp_path: Path) -> None:
    write_lock(tmp_path, pid=os.getpid())
    with alone(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", '{"pid": 1}', "[1]"])
def test_a_lock_that_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(LockedCacheError, match=r"which one, build\.lock does not say.* remove "), alone(tmp_path):
        pass


def test_another_ones_lock_is_let_alone(tmp_path: Path) -> None:
    """Somebody removed the first one's lock by hand, and a second build began."""
    with alone(tmp_path):
        content = write_lock(tmp_path).read_text()
    assert (tmp_path / LOCK).read_text() == content
    with alone(tmp_path / "other"):
        (tmp_path / "other" / LOCK).unlink()
    assert not list((tmp_path / "other").iterdir())
