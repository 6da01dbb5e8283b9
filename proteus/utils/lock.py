"""One writer at a time in a folder."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.dist import broadcast_object_list, get_dist_info

from proteus.structures import LockedError
from proteus.utils.atomic import disk_full_errors

_HELD = "held"
_SECONDS_WITHOUT_NEWS = 60.0


@contextmanager
def exclusive(
    folder: str | Path, purpose: str, name: str = ".lock", remedy: str = "wait for it", wait: bool = False
) -> Iterator[None]:
    """Hold a folder for this process, or for all ranks of a run, which call this together and share it.

    The operating system releases the lock when the process ends, however it ends. The lock file stays and names the
    process that held it last.

    Args:
        folder: Folder to hold; it is made.
        purpose: What the process does there, such as ``training``; a refused process reads it.
        name: Name of the lock file in the folder.
        remedy: What a refused user can do, for the message.
        wait: Wait until the other process has finished, with a line on the terminal, instead of refusing.

    Raises:
        LockedError: Another process holds the folder and ``wait`` is not set; on every rank, so that none waits for
            the others.
        FullDiskError: The disk has no room for the lock file.
    """
    path, first = Path(folder) / name, get_dist_info()[0] == 0
    lock = FileLock(path)
    # News of rank 0 for the others: held, in use by whom, or "" while it waits, every minute: ranks that hear nothing
    # for long would take the run for dead.
    news, timeout = [""], 0.0
    while not news[0]:
        if first:
            try:
                with disk_full_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    lock.acquire(timeout=timeout, poll_interval=0.2)
                    path.write_text(json.dumps(_this_process(purpose)), encoding="utf-8")
                news = [_HELD]
            except Timeout:
                if not wait:
                    news = [f"{folder}: in use by {_holder(path)}; {remedy}"]
                elif not timeout:
                    print(f"waiting: {folder} is in use by {_holder(path)}", file=sys.stderr, flush=True)
        broadcast_object_list(news)
        timeout = _SECONDS_WITHOUT_NEWS
    if news[0] != _HELD:
        raise LockedError(news[0])
    try:
        yield
    finally:
        if first:
            lock.release()


@contextmanager
def process_lock(path: str | Path, wait: bool = True) -> Iterator[bool]:
    """Hold a file for one thread of one process of this machine; unlike :func:`exclusive`, ranks do not share it.

    Args:
        path: The lock file; its folder exists.
        wait: Wait until others have finished.

    Yields:
        Whether the file is held; always True with ``wait``.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.02)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _this_process(purpose: str) -> dict[str, str | int]:
    started = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"purpose": purpose, "pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"{holder['purpose']}, process {holder['pid']} on {holder['host']}, started {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
