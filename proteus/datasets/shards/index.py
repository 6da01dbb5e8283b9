"""Index of the images in WebDataset shards, which are tar files with the files of a sample one after another."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from proteus.structures import DataError, FullDiskError
from proteus.utils import write_json
from proteus.utils.files import cache_folder, is_junk, no_folder
from proteus.utils.images import EXTENSIONS

INDEX = "proteus-index.json"
UNFINISHED = "proteus-packing.json"
_VERSION = 1


@dataclass
class Shard:
    """One tar file.

    Attributes:
        name: File name.
        bytes: File size.
        images: Name, offset and size in bytes of each image.
        skipped: Number of image files that are not the image of a sample, such as ``0001.mask.png``.
        cut: Whether the file was truncated when the index was written.
    """

    name: str
    bytes: int
    images: list[tuple[str, int, int]]
    skipped: int = 0
    cut: bool = False

    def lost(self, size: int) -> int:
        """Return how many images are not complete within the first ``size`` bytes."""
        return sum(offset + length > size for _, offset, length in self.images)


@dataclass
class Index:
    """The shards of a folder.

    Attributes:
        shards: The shards, sorted by name.
        settings: Settings of packing; empty for shards of other tools.
        left_out: Images that could not be packed, with the reasons.
    """

    shards: list[Shard]
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def scan(path: Path) -> Shard:
    """Read the headers of a tar file up to its end or the first damaged one."""
    shard = Shard(path.name, path.stat().st_size, [])
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg():
                    _add(shard, member)
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError, ValueError):  # ValueError: invalid numbers in headers
        shard.cut = True
        return shard
    # tarfile stops silently at a damaged header, and between two images if the end mark is missing.
    with path.open("rb") as file:
        file.seek(end)
        shard.cut = file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE)
    return shard


def read_index(folder: Path) -> Index:
    """Load the index of a folder of shards; new and grown shards are scanned, and the index is written again.

    The index is stored in the folder or, if that is read-only, below ``PROTEUS_CACHE`` (default ``~/.cache/proteus``).
    In a distributed run rank 0 scans while the others wait. Shards that are shorter than in the index are damaged: they
    are reported, and their entries are kept.

    Raises:
        FileNotFoundError: The folder does not exist, has no shards, or lacks shards of the index.
        DataError: The shards are compressed, packing was not finished, or the index is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"dataset.data_root: {no_folder(folder)}; make it with tools/pack_shards.py IMAGES {folder}"
        )
    if (folder / UNFINISHED).exists():
        raise DataError(f"dataset.data_root: the shards in {folder} are not finished; run tools/pack_shards.py again")
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.tar"))}
    if not sizes:
        if any(folder.glob("*.tar.*")) or any(folder.glob("*.tgz")):
            raise DataError(f"dataset.data_root: the shards in {folder} are compressed; unpack them to .tar")
        raise FileNotFoundError(f"dataset.data_root: no shard (*.tar) in {folder}")
    if not is_main_process():
        barrier()
        return _current(folder, sizes)
    try:
        return _current(folder, sizes)
    finally:
        barrier()


def write_index(path: Path, index: Index) -> None:
    """Write an index atomically."""
    summary = {"images": sum(len(shard.images) for shard in index.shards), "shards": len(index.shards)}
    write_json(path, {"version": _VERSION, **summary, "index": asdict(index)}, separators=(",", ":"))


def load_index(path: Path) -> Index | None:
    """Read an index; None if the file cannot be opened.

    Raises:
        DataError: The file is damaged, or not an index; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); remove it to write it again") from error
    if isinstance(content, dict) and content.get("version", _VERSION) != _VERSION:
        raise DataError(f"{path} was written by another version; remove it to write it again")
    try:
        index = content["index"]
        found = Index([_shard(**shard) for shard in index["shards"]], dict(index["settings"]), dict(index["left_out"]))
        if len({shard.name for shard in found.shards}) < len(found.shards):
            raise ValueError("a shard is listed twice")
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}); remove it to write it again") from error


def _shard(name: str, bytes: int, images: Any, skipped: int = 0, cut: bool = False) -> Shard:
    if not isinstance(name, str) or not name.endswith(".tar") or "/" in name:
        raise ValueError(f"{name!r} is not a shard name")
    listed = [(str(image), int(offset), int(size)) for image, offset, size in images]
    if any(offset < 0 or size < 0 for _, offset, size in listed):
        raise ValueError(f"negative position in {name}")
    return Shard(name, int(bytes), listed, int(skipped), bool(cut))


def _add(shard: Shard, member: tarfile.TarInfo) -> None:
    # WebDataset: a file name up to its first dot is the sample's key; the rest is the type of the file.
    stem, _, ending = member.name.rpartition("/")[2].partition(".")
    if f".{ending}".lower() in EXTENSIONS and stem and not any(map(is_junk, member.name.split("/"))):
        shard.images.append((member.name, member.offset_data, member.size))
    elif member.name.lower().endswith(EXTENSIONS):
        shard.skipped += 1


def _current(folder: Path, sizes: dict[str, int]) -> Index:
    paths = [folder / INDEX, _cached(folder)]
    index = next((found for path in paths if (found := load_index(path)) is not None), Index([]))
    known = {shard.name: shard for shard in index.shards}
    missing = sorted(known.keys() - sizes.keys())
    if missing:
        raise FileNotFoundError(
            f"dataset.data_root: {len(missing)} of {len(known)} shards are not in {folder} ({', '.join(missing[:5])}); "
            f"restore them, or remove {INDEX} to train without them"
        )
    new = [name for name, size in sizes.items() if name not in known or size > known[name].bytes]
    if new:
        known.update({name: scan(folder / name) for name in new})
        index.shards = [known[name] for name in sizes]
        _store(index, paths)
    _report(index.shards, sizes, folder)
    return index


def _store(index: Index, paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            write_index(path, index)
            return
        except (OSError, FullDiskError):
            continue
    print_log(f"the index of the shards could not be written to {' or '.join(map(str, paths))}", "current", 30)


def _cached(folder: Path) -> Path:
    return cache_folder() / f"shards-{sha1(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"


def _report(shards: Sequence[Shard], sizes: dict[str, int], folder: Path) -> None:
    for shard in shards:
        size = sizes[shard.name]
        if size < shard.bytes:
            print_log(
                f"{folder / shard.name} is truncated: {size:,} of {shard.bytes:,} bytes; {shard.lost(size):,} of its "
                f"{len(shard.images):,} images are corrupt (if the shard was replaced, remove {INDEX})",
                "current",
                30,
            )
        elif shard.cut:
            print_log(
                f"{folder / shard.name} is truncated after {size:,} bytes: {shard.lost(size):,} of its "
                f"{len(shard.images):,} known images are corrupt, and any that followed are lost",
                "current",
                30,
            )
    skipped = sum(shard.skipped for shard in shards)
    if skipped:
        print_log(
            f"{folder}: {skipped:,} files such as 0001.mask.png are not the image of a sample and are skipped",
            "current",
        )
