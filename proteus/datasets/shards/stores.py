"""Where shards are: a folder of this machine, or a URL with copies of the shards in use on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from proteus.datasets.shards.index import read_index, report_skipped
from proteus.datasets.shards.index_file import INDEX, UNFINISHED, Index, load_index
from proteus.datasets.shards.remote_folder import MissingError, RemoteFolder, Stat
from proteus.datasets.shards.shard_cache import ShardCache
from proteus.structures import DataError
from proteus.utils.files import cache_folder
from proteus.utils.urls import is_url


class ShardStore(Protocol):
    """A set of shards.

    Attributes:
        root: Folder or URL, without a slash at the end.
        is_remote: Whether shards are copied to this machine before they are read.
    """

    root: str
    is_remote: bool

    def index(self) -> Index:
        """Return the index; ranks call this together."""

    def path(self, shard: str) -> Path:
        """Return the path of a shard on this machine."""


class DiskShards:
    """Shards in a folder; see :func:`~proteus.datasets.shards.index.read_index`.

    Args:
        folder: The folder.
    """

    is_remote = False

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder).expanduser()
        self.root = str(self._folder)

    def index(self) -> Index:
        """Read the index, or scan the shards."""
        return read_index(self._folder)

    def path(self, shard: str) -> Path:
        """Return the path of a shard."""
        return self._folder / shard


class RemoteShards:
    """Shards at a URL, which ``proteus pack`` wrote there or which were copied there with their index.

    Args:
        url: URL of the folder.
        cache_dir: Folder of the copies; by default ``shards`` below ``PROTEUS_CACHE``.
        cache_gb: Maximum size of the copies in 10^9 bytes.
    """

    is_remote = True

    def __init__(self, url: str, cache_dir: str | None, cache_gb: float) -> None:
        self.remote = RemoteFolder(url)
        self.root = self.remote.url
        folder = cache_folder() / "shards" if cache_dir is None else Path(cache_dir).expanduser()
        self.cache = ShardCache(self.remote, folder, int(cache_gb * 1e9))

    def index(self) -> Index:
        """Read the index, and compare it with the shards if the server can list them.

        Raises:
            DataError: The index is missing or damaged, packing was not finished, shards are missing, changed or
                truncated, or one is larger than the cache.
        """
        there = self.remote.list() if self.remote.can_list else {}
        if UNFINISHED in there:
            raise DataError(f"dataset.data_root: the shards in {self.root} are not finished; pack them to the end")
        self.cache.stats = {name: stat for name, stat in there.items() if name == INDEX or name.endswith(".tar")}
        try:
            path = self.cache.path(INDEX)
        except MissingError:
            raise DataError(
                f"dataset.data_root: no {INDEX} in {self.root}; pack images with proteus pack IMAGES URL, "
                "or copy the index of a local folder of shards there"
            ) from None
        assert path is not None
        index = load_index(path, f"{self.root}/{INDEX}")
        if index is None:
            raise DataError(f"dataset.data_root: {path}, the copy of the index of {self.root}, cannot be read")
        self.cache.sizes = {shard.name: shard.bytes for shard in index.shards}
        for shard in index.shards:
            self.cache.check_size(shard.name, shard.bytes)
        if self.remote.can_list:
            self._compare(index, there)
        report_skipped(index.shards, self.root)
        return index

    def path(self, shard: str) -> Path:
        """Return the path of the copy of a shard; it is downloaded if it is not there.

        Raises:
            DataError: The shard changed, cannot be read, or has another size than in the index.
        """
        path = self.cache.path(shard)
        assert path is not None
        size = self.cache.stats[shard].size
        if size != self.cache.sizes[shard]:
            self._refuse(shard, f"{size:,} bytes, {self.cache.sizes[shard]:,} in the index")
        return path

    def fetch(self, shard: str) -> None:
        """Download a shard unless it is there, or another process is downloading it."""
        self.cache.path(shard, wait=False)

    def _compare(self, index: Index, there: dict[str, Stat]) -> None:
        for shard in index.shards:
            stat = there.get(shard.name)
            if stat is None:
                raise DataError(f"dataset.data_root: {self.root}/{shard.name} of the index is missing; restore it")
            if stat.size != shard.bytes:
                self._refuse(shard.name, f"{stat.size:,} bytes, {shard.bytes:,} in the index")
            # Tags depend on the server, and on the parts in which a file was uploaded.
            if shard.tag and index.url == self.root and stat.tag != shard.tag:
                self._refuse(shard.name, f"tag {stat.tag}, {shard.tag} in the index")

    def _refuse(self, shard: str, found: str) -> None:
        raise DataError(
            f"dataset.data_root: {self.root}/{shard} changed at its origin after it was packed ({found}); restore it, "
            "or pack the set again"
        )


def open_store(data_root: str, cache_dir: str | None, cache_gb: float) -> ShardStore:
    """Return the shards of a folder or URL.

    Args:
        data_root: Folder or URL.
        cache_dir: As for :class:`RemoteShards`; unused for folders.
        cache_gb: Likewise.
    """
    return RemoteShards(data_root, cache_dir, cache_gb) if is_url(data_root) else DiskShards(data_root)
