"""One build of a teacher cache at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from mmengine.dist import broadcast_object_list, get_dist_info

from proteus.datasets.teacher_cache.index import CacheError
from proteus.datasets.teacher_cache.shards import full_disk_told

LOCK = "build.lock"
# How long a lock may stay empty: between making it and writing into it.
_PATIENCE_S = 1.0


class LockedCacheError(CacheError):
    """A teacher cache that another process is building."""


@dataclass(frozen=True)
class Builder:
    """Who builds a cache.

    Attributes:
        pid: Its process.
        host: The machine on which that is.
        started: When it began.
    """

    pid: int
    host: str
    started: str

    @classmethod
    def here(cls) -> Builder:
        """This process, now."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"))

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended. Of a process on another machine nothing is known."""
        if self.host != socket.gethostname():
            return False
        if self.pid == os.getpid():  # where few processes run, as in a container, numbers come again
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a cache's folder, which is made if there is none; all ranks of a run call this together and share it.

    Raises:
        LockedCacheError: Another process holds it; on every rank, so that none waits for the others.
        FullDiskError: There is no room for the lock.
    """
    own, refused = None, [""]
    if get_dist_info()[0] == 0:
        with full_disk_told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                own, left = lock(folder)
            except LockedCacheError as error:
                refused = [str(error)]
            else:
                if left is not None:
                    text = f"{folder}: {left}, ended in the middle of its build; this one goes on in its place"
                    print(text, file=sys.stderr, flush=True)
    broadcast_object_list(refused)
    if refused[0]:
        raise LockedCacheError(refused[0])
    try:
        yield
    finally:
        if own is not None:
            unlock(folder, own)


def lock(folder: Path) -> tuple[Builder, Builder | None]:
    """Take a cache's folder for this process.

    Args:
        folder: Of the cache; it is there.

    Returns:
        This process, for :func:`unlock`; and the one that ended without giving the folder back, if one did.

    Raises:
        LockedCacheError: Another process is building there, or may be.
        OSError: The lock cannot be written.
    """
    path, own = folder / LOCK, Builder.here()
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            left = _take_over(path, own)
            if left is not None:
                return own, left
            continue
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(own), file)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return own, None


def unlock(folder: Path, own: Builder) -> None:
    """Give a folder back. A lock that was removed by hand, and may be another process's by now, is let alone."""
    with suppress(FileNotFoundError):
        if _read(folder / LOCK) == own:
            (folder / LOCK).unlink()


def _take_over(path: Path, own: Builder) -> Builder | None:
    """Replace the lock of a process that is gone; None if it is another lock by now, or none."""
    try:
        with path.open(encoding="utf-8") as file:
            # Of two processes that find the same one gone, the second waits here and then finds the first one's lock.
            # A file system that cannot do this leaves it to chance, as nobody waits for long.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            builder = _read(path, _PATIENCE_S)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                return None
            if builder is None or not builder.gone:
                raise LockedCacheError(_refusal(path, builder))
            part = path.with_name(f"{path.name}.{own.pid}")
            part.write_text(json.dumps(asdict(own)), encoding="utf-8")
            part.replace(path)
            return builder
    except FileNotFoundError:
        return None


def _read(path: Path, patience: float = 0.0) -> Builder | None:
    """Who holds a lock; None where it does not tell.

    Args:
        path: The lock.
        patience: How long to wait for what it says, in seconds.

    Raises:
        FileNotFoundError: There is no lock.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return Builder(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)


def _refusal(path: Path, builder: Builder | None) -> str:
    who = str(builder) if builder else f"which one, {path.name} does not say"
    return (
        f"{path.parent}: another process is building this teacher cache: {who}. Wait for it, or give another folder "
        f"with --out. If it runs no more, remove {path} and give the same command again: what is finished is kept"
    )
