"""Tar shards as a proxy set."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.subsampling import NamedImages
from proteus.datasets.shards.index import read_index
from proteus.datasets.transforms import CorruptImageError
from proteus.registry import DATASETS


@DATASETS.register_module()
class WebShards(NamedImages):
    """All images in the WebDataset shards (``*.tar``) of a folder, made by ``tools/pack_shards.py`` or by others.

    A sample is read where the index says that it stands, so the set has a length and an order like a folder: shuffling
    is exact, every rank and worker gets its share, a resumed run continues, and a corrupt image is replaced. Shards
    from elsewhere are indexed at their first use (:func:`~proteus.datasets.shards.index.read_index`).

    What this costs: one positioned read per image, anywhere in the shards. From a local disk that is as fast as a
    folder, and the many small files to copy, list and open are saved. On disks with moving heads and on network storage
    without a cache it is far slower than reading whole shards from end to end, as the library webdataset does, which
    shuffles within a window only: copy the shards to a local disk.

    Args:
        data_root: Folder of the shards.
        pipeline: As for :class:`ProxySet`.
        indices: As for :class:`ProxySet`.
        **subset: ``images_per_class``, ``classes``, ``subset_seed`` and ``list_file``, as for
            :class:`~proteus.datasets.proxy.subsampling.NamedImages`; classes are first folders within the shards.

    Raises:
        FileNotFoundError: There is no such folder, no shard or no image in it, or a shard is missing.
        ValueError: The shards are compressed, or packing them has not come to its end.
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
        """List the images in the order in which they stand in the shards."""
        listed = [
            {"img_path": f"{self.root}/{shard.name}/{name}", "shard": shard.name, "offset": offset, "size": size}
            for shard in read_index(self.root).shards
            for name, offset, size in shard.images
        ]
        if not listed:
            raise FileNotFoundError(f"dataset.data_root: no image in the shards of {self.root}")
        return listed

    def name_of(self, info: dict[str, Any]) -> str:
        """The shard, and the image's name within it."""
        return str(info["img_path"])[len(str(self.root)) + 1 :]

    def path_of(self, name: str) -> str:
        """The image's name within its shard."""
        return name.partition("/")[2]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The image's ``img_bytes``, and an ``img_path`` to call it by.

        Raises:
            CorruptImageError: The shard ends before the image does, or cannot be read.
        """
        info = super().get_data_info(idx)
        try:
            content = self._reader.read(self.root / info["shard"], info["offset"], info["size"])
        except OSError as error:
            raise CorruptImageError(f"{info['img_path']} ({type(error).__name__}: {error})") from error
        if len(content) < info["size"]:
            raise CorruptImageError(f"{info['img_path']} (the shard is cut short)")
        return {**info, "img_bytes": content}


class ShardReader:
    """Reads parts of files, and keeps the last few files open.

    Files are read by position, so that workers that are forked may share them.

    Args:
        most: How many files to keep open.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._open: OrderedDict[Path, int] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read up to ``size`` bytes from ``offset`` on; fewer where the file ends.

        Raises:
            OSError: The file cannot be read.
        """
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY)
        self._open[path] = descriptor
        if len(self._open) > self.most:
            os.close(self._open.popitem(last=False)[1])
        # What an index or a header says may be far beyond the file.
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
        """Files stay with their process."""
        return {"most": self.most, "_open": OrderedDict()}
