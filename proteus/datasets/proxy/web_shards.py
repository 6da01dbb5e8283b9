"""Proxy set of the images in tar shards."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.subsampling import SubsampledProxySet
from proteus.datasets.shards.index import read_index
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS


@DATASETS.register_module()
class WebShards(SubsampledProxySet):
    """All images in the WebDataset shards (``*.tar``) of a folder, made by ``tools/pack_shards.py`` or another tool.

    An index gives the position of each image, so the set has a length and an order like a folder: shuffling is exact,
    ranks and workers share the work, a resumed run continues, and corrupt images are replaced. Shards of other tools
    are indexed at their first use (:func:`~proteus.datasets.shards.index.read_index`).

    Each image takes one random read. On a local SSD that is as fast as a folder, without many small files to copy, list
    and open. On hard disks, and on network storage without a cache, it is far slower than reading shards sequentially,
    as the library webdataset does (which shuffles only within a window): copy the shards to a local disk.

    Args:
        data_root: Folder of the shards.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.
        **subset: ``images_per_class``, ``classes``, ``subset_seed`` and ``list_file``, as for
            :class:`~proteus.datasets.proxy.subsampling.SubsampledProxySet`; classes are first folders inside shards.

    Raises:
        FileNotFoundError: The folder does not exist, has no shards or images, or lacks a shard.
        ValueError: The shards are compressed, or packing was not finished.
    """

    def __init__(
        self,
        data_root: str,
        pipeline: Sequence[Any] = (),
        indices: int | Sequence[int] | None = None,
        **subset: Any,
    ) -> None:
        self.root = Path(data_root).expanduser()
        self._reader = ShardReader()
        super().__init__(data_root, pipeline, indices, **subset)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images in the order of the shards."""
        listed = [
            {"img_path": f"{self.root}/{shard.name}/{name}", "shard": shard.name, "offset": offset, "size": size}
            for shard in read_index(self.root).shards
            for name, offset, size in shard.images
        ]
        if not listed:
            raise FileNotFoundError(f"dataset.data_root: no images in the shards of {self.root}")
        return listed

    def name_of(self, info: dict[str, Any]) -> str:
        """Return shard and name of the image."""
        return str(info["img_path"])[len(str(self.root)) + 1 :]

    def path_of(self, name: str) -> str:
        """Return the name of the image inside its shard."""
        return name.partition("/")[2]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the image's ``img_bytes``, and an ``img_path`` that names it in messages.

        Raises:
            CorruptImageError: The shard is truncated, or cannot be read.
        """
        info = super().get_data_info(idx)
        try:
            content = self._reader.read(self.root / info["shard"], info["offset"], info["size"])
        except OSError as error:
            raise CorruptImageError(f"{info['img_path']} ({type(error).__name__}: {error})") from error
        if len(content) < info["size"]:
            raise CorruptImageError(f"{info['img_path']} (the shard is truncated)")
        return {**info, "img_bytes": content}


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
        self._open[path] = descriptor
        if len(self._open) > self.max_open:
            os.close(self._open.popitem(last=False)[1])
        # A damaged index or header may ask for far more than the file has.
        size = max(0, min(size, os.fstat(descriptor).st_size - offset))
        content = b""
        while len(content) < size and (more := os.pread(descriptor, size - len(content), offset + len(content))):
            content += more
        return content

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
