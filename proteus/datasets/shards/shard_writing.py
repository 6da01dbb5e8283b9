"""Write one shard of images."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from io import BytesIO
from os.path import splitext
from pathlib import Path

from proteus.datasets.shards.index import scan
from proteus.datasets.shards.index_file import Shard
from proteus.structures import CorruptImageError, DataError
from proteus.utils import atomic_path
from proteus.utils.image_files import read_content
from proteus.utils.images import open_rgb, upright_size


@dataclass
class Packing:
    """Task of packing one shard, and its result.

    Attributes:
        path: Path of the shard.
        source: Folder of the images.
        images: Name relative to that folder, and key in the shard, of each image.
        short_side: Shorter side in pixels to which larger images are reduced; None for no reduction.
        quality: JPEG quality of reduced images.
        left_out: Images that could not be read, with the reasons.
        shard: Index of the shard.
        made: Whether the shard was written now, and not by an earlier run.
        seconds: Time of writing.
    """

    path: Path
    source: Path
    images: list[tuple[str, str]]
    short_side: int | None
    quality: int
    left_out: dict[str, str] = field(default_factory=dict)
    shard: Shard | None = None
    made: bool = True
    seconds: float = 0.0


def encode(path: Path, short_side: int | None, quality: int) -> tuple[str, bytes]:
    """Encode an image for a shard; returns its file ending and content.

    Raises:
        CorruptImageError: The image cannot be decoded completely.
    """
    content = read_content(path)
    image = open_rgb(content, path, short_side)
    if short_side is None or min(upright_size(content, path)) <= short_side:
        return path.suffix[1:].lower(), content
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return "jpg", file.getvalue()


def pack_shard(task: Packing) -> Packing:
    """Write one shard unless it is complete already.

    Raises:
        OSError: The shard cannot be written, or reads back differently.
    """
    from webdataset import TarWriter

    started = time.monotonic()
    if _is_complete(task):
        task.made = False
        return task
    sizes = []
    with atomic_path(task.path) as temporary:
        with (
            temporary.open("wb") as file,
            TarWriter(file, encoder=False, mtime=0, format="PAX_FORMAT") as writer,
        ):
            for name, key in task.images:
                try:
                    ending, content = encode(task.source / name, task.short_side, task.quality)
                except CorruptImageError as error:
                    task.left_out[name] = str(error)
                else:
                    writer.write({"__key__": key, ending: content})
                    sizes.append((f"{key}.{ending}", len(content)))
        shard = scan(temporary)
        if shard.cut or [(name, size) for name, _, size in shard.images] != sizes:
            raise DataError(f"{task.path} reads back differently than it was written; check the disk")
    task.shard = Shard(task.path.name, shard.bytes, shard.images)
    task.seconds = time.monotonic() - started
    return task


def unreadable(task: Packing, name: str) -> str | None:
    """Return why an image of a task cannot be packed; None if it can."""
    try:
        encode(task.source / name, task.short_side, task.quality)
    except CorruptImageError as error:
        return str(error)
    return None


def _is_complete(task: Packing) -> bool:
    if not task.path.exists():
        return False
    shard = scan(task.path)
    there = {splitext(name)[0] for name, _, _ in shard.images}
    for name, key in task.images:
        if key in there:
            continue
        reason = unreadable(task, name)
        if reason is None:
            task.left_out.clear()
            return False
        task.left_out[name] = reason
    task.shard = shard
    return not shard.cut and len(there) + len(task.left_out) == len(task.images)
