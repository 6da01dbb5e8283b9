"""Where shards are packed to: a folder of this machine, or a URL."""

from __future__ import annotations

import json
import os
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol

from proteus.datasets.shards.index_file import INDEX, UNFINISHED, Index, load_index, write_index
from proteus.datasets.shards.remote_folder import MissingError, RemoteFolder, Stat
from proteus.datasets.shards.shard_writing import Packing, pack_shard, unreadable
from proteus.structures import DataError
from proteus.utils import write_json
from proteus.utils.files import cache_folder
from proteus.utils.urls import is_url


class Destination(Protocol):
    """Target of a packing.

    Attributes:
        folder: Folder of this machine where shards are written; one process at a time packs to it.
    """

    folder: Path

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse a target with other shards than those of the settings; write nothing."""

    def begin(self, settings: dict[str, Any]) -> None:
        """Mark the target as unfinished."""

    def pack(self, task: Packing) -> Packing:
        """Write one shard unless it is complete already; called in worker processes."""

    def finish(self, index: Index) -> None:
        """Write the index, and remove the mark."""


class FolderDestination:
    """A folder of this machine.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse a folder with other shards."""
        unfinished = self.folder / UNFINISHED
        index = load_index(self.folder / INDEX)
        if unfinished.exists():
            _compare(_read_settings(unfinished, str(unfinished)), settings, str(self.folder))
        elif index is not None:
            _compare(index.settings, settings, str(self.folder))
        elif any(self.folder.glob("*.tar")):
            raise _foreign(str(self.folder))

    def begin(self, settings: dict[str, Any]) -> None:
        """Mark the folder as unfinished."""
        write_json(self.folder / UNFINISHED, settings)

    def pack(self, task: Packing) -> Packing:
        """Write one shard unless it is complete already."""
        return pack_shard(task)

    def finish(self, index: Index) -> None:
        """Write the index, and remove the mark."""
        write_index(self.folder / INDEX, index)
        (self.folder / UNFINISHED).unlink()


class RemoteDestination:
    """A URL. Shards are written to this machine, uploaded and removed; what was uploaded is noted for a resume.

    Args:
        url: URL of a folder that can be written to.
    """

    def __init__(self, url: str) -> None:
        self.remote = RemoteFolder(url, key="target")
        if not self.remote.can_list:
            raise DataError(f"target: {self.remote.url} can only be read; write to s3://, gs:// or a folder")
        self.folder = cache_folder() / f"packing-{sha1(self.remote.url.encode()).hexdigest()[:16]}"
        self._there: dict[str, Stat] = {}
        self._finished: dict[str, Index] = {}

    def check(self, settings: dict[str, Any]) -> None:
        """Refuse a URL with other shards, and remember those that are complete."""
        try:
            self._there = self.remote.list()
        except MissingError:
            self._there = {}
        url = self.remote.url
        index = load_index(self._download(INDEX), f"{url}/{INDEX}") if INDEX in self._there else None
        if UNFINISHED in self._there:
            _compare(_read_settings(self._download(UNFINISHED), f"{url}/{UNFINISHED}"), settings, url)
        elif index is not None:
            _compare(index.settings, settings, url)
        elif any(name.endswith(".tar") for name in self._there):
            raise _foreign(url)
        if index is not None and index.settings == settings:
            self._finished = {shard.name: Index([shard], {}, index.left_out) for shard in index.shards}

    def begin(self, settings: dict[str, Any]) -> None:
        """Mark the URL as unfinished."""
        write_json(self.folder / UNFINISHED, settings)
        self.remote.upload(self.folder / UNFINISHED, UNFINISHED)

    def pack(self, task: Packing) -> Packing:
        """Write and upload one shard unless it is complete already."""
        note = task.path.with_suffix(".json")
        if self._is_complete(task, load_index(note) or self._finished.get(task.path.name)):
            return task
        task.path.unlink(missing_ok=True)
        pack_shard(task)
        assert task.shard is not None
        task.shard.tag = self.remote.upload(task.path, task.path.name).tag
        write_index(note, Index([task.shard], {}, task.left_out))
        task.path.unlink()
        return task

    def finish(self, index: Index) -> None:
        """Upload the index, remove the mark, and remove the notes."""
        index.url = self.remote.url
        write_index(self.folder / INDEX, index)
        self.remote.upload(self.folder / INDEX, INDEX)
        self.remote.remove(UNFINISHED)
        for path in self.folder.iterdir():
            if path.name != ".lock":
                path.unlink()

    def _is_complete(self, task: Packing, noted: Index | None) -> bool:
        stat = self._there.get(task.path.name)
        if noted is None or stat is None:
            return False
        (shard,) = noted.shards
        names = {name for name, _ in task.images}
        left_out = [name for name in noted.left_out if name in names]
        if (stat.size, stat.tag) != (shard.bytes, shard.tag) or len(shard.images) + len(left_out) != len(names):
            return False
        found = {name: unreadable(task, name) for name in left_out}
        if not all(found.values()):  # an image was repaired
            return False
        task.left_out.update({name: reason for name, reason in found.items() if reason})
        task.shard, task.made = shard, False
        return True

    def _download(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.{os.getpid()}"  # a second process that packs here is refused later
        self.remote.download(name, path)
        return path


def open_destination(target: str | Path) -> Destination:
    """Return the target of a packing.

    Args:
        target: Folder or URL.
    """
    return RemoteDestination(str(target)) if is_url(str(target)) else FolderDestination(Path(target))


def _foreign(target: str) -> DataError:
    return DataError(f"{target} has shards of another tool; give an empty folder")


def _compare(earlier: dict[str, Any], settings: dict[str, Any], target: str) -> None:
    other = [key for key, value in settings.items() if earlier.get(key) != value]
    if other:
        changed = ", ".join("the images themselves" if key == "names" else f"{key}={earlier.get(key)}" for key in other)
        raise DataError(f"{target} has shards with other settings ({changed}); give an empty folder")


def _read_settings(path: Path, name: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("not a JSON object")
        return settings
    except ValueError as error:
        raise DataError(f"{name} is damaged ({error}); empty the folder and pack again") from error
