"""Copies of remote shards on the disk of this machine, within a bound."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack, nullcontext, suppress
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from mmengine.logging import print_log

from proteus.datasets.shards.remote_folder import RemoteFolder, Stat
from proteus.structures import DataError
from proteus.utils.atomic import atomic_path, disk_full_errors
from proteus.utils.lock import process_lock

_NAME = re.compile(r"(?P<url>[0-9a-f]{12})-(?P<tag>[0-9a-f]{8})-(?P<size>\d+)-(?P<name>.+)")
_LOCKS = 256
_POLL_INTERVAL = 0.05  # seconds
_TOUCH_INTERVAL = 5.0  # seconds between two updates of a copy's time of use


class ShardCache:
    """Copies of the shards of a remote folder; the least recently used ones are removed to make room.

    All processes of a machine share a folder, also for different URLs: each shard is downloaded once, and appears under
    its name only once it is complete. The name holds URL, tag and size, so that a changed shard is another file.

    Args:
        remote: The remote folder.
        folder: Folder of the copies.
        limit: Maximum size of all files in ``folder`` in bytes, with running downloads at their full size. Files that
            processes still read after their removal are not counted.

    Attributes:
        stats: State of the remote files when the run started; others are requested at their first use. Sizes that are
            unknown are -1.
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
            wait: Wait while another process downloads it, or until downloads of other files leave room for it;
                otherwise return None.

        Raises:
            DataError: The file changed at its origin after the start, cannot be read, or is larger than the cache; or
                the cache's folder cannot be written to.
            FullDiskError: The disk is full.
        """
        if name not in self.stats:
            self.stats[name] = self._current(name)
        stat = self.stats[name]
        path = self._path(name, stat)
        if self._is_there(path, stat):
            return path
        self.check_size(name, stat.size)
        try:
            with disk_full_errors(path):
                self.folder.mkdir(parents=True, exist_ok=True)
                with process_lock(self._lock_of(path), wait) as held:
                    is_there = held and (self._is_there(path, stat) or self._download(name, stat, path, wait))
        except OSError as error:
            raise DataError(
                f"dataset.cache_dir: {self.folder} cannot be written to ({type(error).__name__}: {error}); name "
                "another folder"
            ) from error
        return path if is_there else None

    def check_size(self, name: str, size: int) -> None:
        """Check that the cache has room for a file.

        Raises:
            DataError: It is larger than the cache.
        """
        if size > self.limit:
            raise DataError(
                f"dataset.cache_gb={self.limit / 1e9:g}: {self.remote.url}/{name} alone has {size / 1e9:.3g} GB; "
                "write more than the size of a few shards"
            )

    def _download(self, name: str, stat: Stat, path: Path, wait: bool) -> bool:
        """Download a file; return False if other downloads need the room and ``wait`` is not set."""
        with ExitStack() as stack:
            temporary = self._reserve(name, stat, path, stack)
            if temporary is None and wait:
                print_log(f"{self.remote.url}/{name} waits for room in {self.folder}", "current")
            while temporary is None:
                if not wait:
                    return False
                time.sleep(_POLL_INTERVAL)
                temporary = self._reserve(name, stat, path, stack)
            self.remote.download(name, temporary)
            found, size = self._current(name), temporary.stat().st_size
            if found != stat or stat.size not in (size, -1):
                raise DataError(
                    f"{self.remote.key}: {self.remote.url}/{name} changed at its origin: {size:,} bytes, tag "
                    f"{found.tag or 'unknown'}, expected {stat.size:,} bytes, tag {stat.tag or 'unknown'}; "
                    "restore it, or pack the set again and start a new run"
                )
        self._used[path] = time.monotonic()
        return True

    def _current(self, name: str) -> Stat:
        stat = self.remote.stat(name)
        return stat if stat.size >= 0 else stat._replace(size=self.sizes.get(name, -1))

    def _reserve(self, name: str, stat: Stat, path: Path, stack: ExitStack) -> Path | None:
        """Make room for a file, and open its temporary file, which counts at the size in its name from then on.

        Returns:
            The temporary file; None if running downloads need the room.
        """
        with process_lock(self.folder / ".room"):
            total, removable = stat.size, list[_Copy]()
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
            if total - sum(copy.size for copy in removable) > self.limit:
                return None
            for copy in sorted(removable, key=lambda copy: copy.used):
                if total <= self.limit:
                    break
                copy.path.unlink(missing_ok=True)
                total -= copy.size
            return stack.enter_context(atomic_path(path, durable=False))

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
        with nullcontext(True) if lock == held_here else process_lock(lock, wait=False) as held:
            if held:
                copy.path.unlink(missing_ok=True)
            return held

    def _is_there(self, path: Path, stat: Stat) -> bool:
        """Whether a complete copy exists; its time of use is updated."""
        try:
            # A copy of unknown size is used by the process that has downloaded it.
            if path.stat().st_size != stat.size and (stat.size >= 0 or path not in self._used):
                return False
        except OSError:
            return False
        if time.monotonic() - self._used.get(path, -_TOUCH_INTERVAL) >= _TOUCH_INTERVAL:
            with suppress(OSError):  # removed in the meantime, or of another user
                os.utime(path)
            self._used[path] = time.monotonic()
        return True

    def _path(self, name: str, stat: Stat) -> Path:
        tag = sha1(f"{stat.tag} {stat.size}".encode()).hexdigest()[:8]
        return self.folder / f"{self._source}-{tag}-{max(stat.size, 0)}-{name}"

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
