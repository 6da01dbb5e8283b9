"""Copies of remote shards on the disk of this machine, within a bound."""

from __future__ import annotations

import os
import re
import time
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from mmengine.logging import print_log

from proteus.datasets.shards.remote_folder import RemoteFolder, Stat
from proteus.structures import DataError
from proteus.utils import atomic_path
from proteus.utils.lock import process_lock

_NAME = re.compile(r"(?P<url>[0-9a-f]{12})-(?P<tag>[0-9a-f]{8})-(?P<size>\d+)-(?P<name>.+)")
_LOCKS = 256
_TOUCH_INTERVAL = 5.0  # seconds between two updates of a copy's time of use


class ShardCache:
    """Copies of the shards of a remote folder; the least recently used ones are removed to make room.

    All processes of a machine share a folder, also for different URLs: each shard is downloaded once, and appears under
    its name only once it is complete. The name holds URL, tag and size, so that a changed shard is another file.

    Args:
        remote: The remote folder.
        folder: Folder of the copies.
        limit: Maximum size of all files in ``folder`` in bytes. Files that processes still read after their removal are
            not counted.

    Attributes:
        stats: State of the remote files when the run started; others are requested at their first use.
        sizes: Sizes in the index, for servers that report none.
    """

    def __init__(self, remote: RemoteFolder, folder: Path, limit: int) -> None:
        self.remote = remote
        self.folder = folder
        self.limit = limit
        self.stats: dict[str, Stat] = {}
        self.sizes: dict[str, int] = {}
        self._used: dict[Path, float] = {}
        self._source = sha1(remote.url.encode()).hexdigest()[:12]

    def path(self, name: str, wait: bool = True) -> Path | None:
        """Return the copy of a file; it is downloaded if it is not there.

        Args:
            name: Name in the remote folder.
            wait: Wait while another process downloads it; otherwise return None.

        Raises:
            DataError: The file changed at its origin after the start, cannot be read, or is larger than the cache.
            FullDiskError: The disk is full.
        """
        if name not in self.stats:
            self.stats[name] = self._current(name)
        stat = self.stats[name]
        path = self._path(name, stat)
        if self._is_there(path, stat):
            return path
        if stat.size > self.limit:
            raise DataError(
                f"dataset.cache_gb={self.limit / 1e9:g}: {self.remote.url}/{name} alone has {stat.size / 1e9:.3g} GB; "
                "write more than the size of a few shards"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with process_lock(self._lock_of(path), wait) as held:
            if not held:
                return None
            if not self._is_there(path, stat):
                self._download(name, stat, path)
        return path

    def _download(self, name: str, stat: Stat, path: Path) -> None:
        with atomic_path(path, durable=False) as temporary:
            self._make_room(name, path)
            self.remote.download(name, temporary)
            found, size = self._current(name), temporary.stat().st_size
            if found != stat or size != stat.size:
                raise DataError(
                    f"{self.remote.key}: {self.remote.url}/{name} changed at its origin: {size:,} bytes, tag "
                    f"{found.tag or 'unknown'}, expected {stat.size:,} bytes, tag {stat.tag or 'unknown'}; "
                    "restore it, or pack the set again and start a new run"
                )
        self._used[path] = time.monotonic()

    def _current(self, name: str) -> Stat:
        stat = self.remote.stat(name)
        return stat if stat.size >= 0 else stat._replace(size=self.sizes.get(name, 0))

    def _make_room(self, name: str, path: Path) -> None:
        """Remove copies until everything, with all running downloads at their full size, is within the limit."""
        with process_lock(self.folder / ".room"):
            total, removable = 0, list[_Copy]()
            for copy in self._copies():
                if copy.is_partial:
                    if self._is_abandoned(copy, self._lock_of(path)):
                        continue
                elif (copy.source, copy.name) == (self._source, name):
                    print_log(f"{self.remote.url}/{name} changed since it was copied, and is copied again", "current")
                    copy.path.unlink(missing_ok=True)
                    continue
                else:
                    removable.append(copy)
                total += copy.size
            for copy in sorted(removable, key=lambda copy: copy.used):
                if total <= self.limit:
                    break
                copy.path.unlink(missing_ok=True)
                total -= copy.size

    def _copies(self) -> list[_Copy]:
        found = []
        for entry in os.scandir(self.folder):
            is_partial = entry.name.startswith(".")
            match = _NAME.fullmatch(entry.name.removeprefix(".").removesuffix(".tmp") if is_partial else entry.name)
            if match:
                try:
                    used = entry.stat().st_mtime_ns
                except FileNotFoundError:
                    continue
                found.append(_Copy(Path(entry.path), match["url"], match["name"], int(match["size"]), used, is_partial))
        return found

    def _is_abandoned(self, copy: _Copy, held_here: Path) -> bool:
        """Remove the part of a download that was killed: nobody holds its lock."""
        lock = self._lock_of(copy.path.with_name(copy.path.name[1:].removesuffix(".tmp")))
        if lock == held_here:
            return False
        with process_lock(lock, wait=False) as held:
            if held:
                copy.path.unlink(missing_ok=True)
            return held

    def _is_there(self, path: Path, stat: Stat) -> bool:
        """Whether a complete copy exists; its time of use is updated."""
        try:
            if path.stat().st_size != stat.size:
                return False
            if time.monotonic() - self._used.get(path, -_TOUCH_INTERVAL) >= _TOUCH_INTERVAL:
                os.utime(path)
                self._used[path] = time.monotonic()
            return True
        except OSError:
            return False

    def _path(self, name: str, stat: Stat) -> Path:
        tag = sha1(f"{stat.tag} {stat.size}".encode()).hexdigest()[:8]
        return self.folder / f"{self._source}-{tag}-{stat.size}-{name}"

    def _lock_of(self, path: Path) -> Path:
        # A fixed number of lock files: those of removed copies would stay.
        return self.folder / f".lock-{int(sha1(path.name.encode()).hexdigest(), 16) % _LOCKS}"


class _Copy(NamedTuple):
    path: Path
    source: str
    name: str
    size: int
    used: int
    is_partial: bool
