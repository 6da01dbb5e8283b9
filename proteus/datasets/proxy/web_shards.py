"""Proxy set of the images in tar shards."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.proxy.shard_list import ShardList
from proteus.datasets.proxy.shard_order import ShardOrder
from proteus.datasets.proxy.subsampling import SubsampledProxySet
from proteus.datasets.seeding import SampleKey
from proteus.datasets.shards.read_ahead import ReadAhead
from proteus.datasets.shards.stores import RemoteShards, open_store
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_number

# Attempts to open a copy that other processes may remove as soon as it is complete.
_OPENINGS = 10


@DATASETS.register_module()
class WebShards(SubsampledProxySet):
    """All images in the WebDataset shards (``*.tar``) of a folder or URL, which ``proteus pack`` makes.

    An index gives the position of each image, so the set has a length and an order like a folder: shuffling is exact,
    ranks and workers share the work, a resumed run continues, and corrupt images are replaced. Shards that other tools
    wrote to a folder are indexed at their first use (:func:`~proteus.datasets.shards.index.read_index`).

    Each image takes one random read. On a local SSD that is as fast as a folder, without many small files to copy, list
    and open. Hard disks and network file systems are far slower at it.

    From a URL (``s3://``, ``gs://``, ``https://``; ``pip install 'proteus-toolbox[remote]'``), whole shards are copied
    to this machine when their first image is needed, and the least recently used ones are removed beyond ``cache_gb``.
    All processes of a machine share the copies. With :class:`~proteus.datasets.proxy.shard_sampler.ShardSampler` each
    shard is copied once per epoch, before it is needed; :class:`~proteus.datasets.proxy.sampler.ProxySampler` reads all
    shards all the time, which needs a cache of the size of the set.

    Args:
        data_root: Folder or URL of the shards. Credentials come from the environment, never from the URL.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.
        cache_dir: Folder of the copies, for a URL; by default ``shards`` below ``PROTEUS_CACHE``.
        cache_gb: Maximum size of all copies in that folder in 10^9 bytes, of all sets that share it.
        read_ahead: Copy the next shards in the background; works with ``ShardSampler``.
        **subset: ``images_per_class``, ``classes``, ``subset_seed`` and ``list_file``, as for
            :class:`~proteus.datasets.proxy.subsampling.SubsampledProxySet`; classes are first folders inside shards.

    Attributes:
        order: Order in which a sampler visits the shards, which it sets.

    Raises:
        FileNotFoundError: The folder does not exist, has no shards or images, or lacks a shard.
        ValueError: The shards are compressed, packing was not finished, or the URL cannot be read.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        cache_dir: str | None = None,
        cache_gb: float = 100.0,
        read_ahead: bool = True,
        **subset: Any,
    ) -> None:
        check_number("dataset.cache_gb", cache_gb, 0, above=True)
        self.store = open_store(data_root, cache_dir, cache_gb)
        self.order: ShardOrder | None = None
        self._reader = ShardReader()
        self._ahead = ReadAhead(self.store.fetch) if isinstance(self.store, RemoteShards) and read_ahead else None
        self._asked: dict[int, tuple[int, int]] = {}  # epoch and window by lane
        self._bytes = 0
        super().__init__(data_root, pipeline, indices, **subset)

    def load_data_list(self) -> Sequence[dict[str, Any]]:
        """List the images in the order of the shards."""
        shards = self.store.index().shards
        self._bytes = sum(shard.bytes for shard in shards)
        listed = ShardList(f"{self.store.root}/", shards)
        if not listed:
            raise FileNotFoundError(f"dataset.data_root: no images in the shards of {self.store.root}")
        return listed

    def shard_numbers(self) -> tuple[np.ndarray, list[str]]:
        """Return the number of the shard of each image, int32, and the names of the shards."""
        assert isinstance(self.data_list, ShardList)
        return self.data_list.shard_numbers(), self.data_list.shards

    def set_order(self, order: ShardOrder | None) -> None:
        """Follow the order of a sampler, or None for one that does not group images by shard."""
        self.order = order
        if order is None or not isinstance(self.store, RemoteShards):
            return
        limit = self.store.cache.limit
        if order.working_set(self._bytes) > limit:
            print_log(
                f"dataset.cache_gb={limit / 1e9:g}: {order.lanes} lanes of {order.window} shards, read ahead, take "
                f"{order.working_set(self._bytes) / 1e9:.3g} GB; shards are downloaded more than once unless lanes are "
                "on several machines; write a larger cache_gb, or fewer sampler.lanes or sampler.window",
                "current",
                30,
            )

    def _join_prefix(self) -> None:
        """Do nothing: MMEngine would look for its own client of the URL's protocol."""

    def name_of(self, info: dict[str, Any]) -> str:
        """Return shard and name of the image."""
        return str(info["img_path"])[len(self.store.root) + 1 :]

    def path_of(self, name: str) -> str:
        """Return the name of the image inside its shard."""
        return name.partition("/")[2]

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load a view as :class:`ProxySet` does, and fetch the shards that the sampler visits next.

        An image that replaces a corrupt one may be of another rank's lane, which is not followed.
        """
        key = SampleKey.of(key)
        # Keys with another seed are not the sampler's: views to fit weights on are spread over all shards.
        if self.order is not None and key.seed == self.order.seed:
            self.fetch_ahead(key.image, key.epoch)
        return super().__getitem__(key)

    def fetch_ahead(self, index: int, epoch: int) -> None:
        """Start to fetch the shards that the sampler visits after an image, unless that was done."""
        if self._ahead is not None and self.order is not None:
            _, lane, window = self.order.place(epoch, index)
            if self._asked.get(lane) != (epoch, window):
                self._asked[lane] = (epoch, window)
                self._ahead.want(self.order.next_window(epoch, lane, window, first=os.getpid()))

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the image's ``img_bytes``, and an ``img_path`` that names it in messages.

        Raises:
            CorruptImageError: The shard is truncated, or cannot be read.
            DataError: The shard cannot be downloaded.
        """
        info = super().get_data_info(idx)
        try:
            content = self._content(info)
        except OSError as error:
            raise CorruptImageError(f"{info['img_path']} ({type(error).__name__}: {error})") from error
        if len(content) < info["size"]:
            raise CorruptImageError(f"{info['img_path']} (the shard is truncated)")
        return {**info, "img_bytes": content}

    def _content(self, info: dict[str, Any]) -> bytes:
        for _ in range(_OPENINGS):
            path = self.store.path(info["shard"])
            try:
                return self._reader.read(path, info["offset"], info["size"])
            except FileNotFoundError:
                if not self.store.is_remote:
                    raise
        raise DataError(
            f"{info['img_path']}: other processes remove the copy of the shard before it is read: write a larger "
            "dataset.cache_gb"
        )

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Any:
        checked = super()._get_unserialized_subset(indices)
        if isinstance(indices, int) or not isinstance(self.data_list, ShardList):
            return checked
        return self.data_list.take(np.arange(len(self.data_list))[list(indices)])


def check_caches(sets: Iterable[WebShards]) -> None:
    """Warn of each cache that is smaller than the shards of all sets which share it and are read all the time.

    Args:
        sets: The sets that a sampler without an order of shards reads.
    """
    sharing: dict[Path, list[WebShards]] = {}
    for each in sets:
        if isinstance(each.store, RemoteShards):
            sharing.setdefault(each.store.cache.folder, []).append(each)
    for members in sharing.values():
        # Each process removes copies beyond the limit of the set that it reads. Two sets of one URL share its copies.
        limit = min(each.store.cache.limit for each in members if isinstance(each.store, RemoteShards))
        sizes = {each.store.root: each._bytes for each in members}
        size = sum(sizes.values())
        if size > limit:
            print_log(
                f"dataset.cache_gb={limit / 1e9:g}: the shards of {' and '.join(sizes)} have {size / 1e9:.3g} GB, "
                "and this sampler reads all of them all the time, so that they are downloaded again and again; write a "
                "larger cache_gb, or sampler=dict(type='ShardSampler') if this is the whole training set",
                "current",
                30,
            )


class ShardReader:
    """Read parts of files, keeping the most recent files open.

    Reads are positional, so forked workers may share the open files.

    Args:
        max_open: Maximum number of open files.
    """

    def __init__(self, max_open: int = 64) -> None:
        self.max_open = max_open
        self._open: OrderedDict[Path, int] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read ``size`` bytes from ``offset``, or fewer at the end of the file.

        Raises:
            OSError: The file cannot be read.
        """
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
            self._close_removed()
        self._open[path] = descriptor
        if len(self._open) > self.max_open:
            os.close(self._open.popitem(last=False)[1])
        # A damaged index or header may ask for far more than the file has.
        size = max(0, min(size, os.fstat(descriptor).st_size - offset))
        content = b""
        while len(content) < size and (more := os.pread(descriptor, size - len(content), offset + len(content))):
            content += more
        return content

    def _close_removed(self) -> None:
        """Close files without a name: the disk has their space again once nobody has them open."""
        for path, descriptor in list(self._open.items()):
            if os.fstat(descriptor).st_nlink == 0:
                os.close(self._open.pop(path))

    def close(self) -> None:
        """Close all files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        """Close all files."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open files."""
        return {"max_open": self.max_open, "_open": OrderedDict()}
