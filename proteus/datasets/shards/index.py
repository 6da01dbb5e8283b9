"""Scan WebDataset shards, which are tar files with the files of a sample one after another, and keep their index."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log

from proteus.datasets.shards.index_file import INDEX, UNFINISHED, Entry, Index, Shard, load_index, write_index
from proteus.structures import DataError, FullDiskError
from proteus.utils.files import cache_folder, is_junk, no_folder
from proteus.utils.images import EXTENSIONS


def scan(path: Path) -> Shard:
    """Read the headers of a tar file up to its end or the first damaged one."""
    images: list[Entry] = []
    shard = Shard(path.name, path.stat().st_size, images)
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg():
                    shard.skipped += _add(images, member)
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
        raise FileNotFoundError(f"dataset.data_root: {no_folder(folder)}; make it with proteus pack IMAGES {folder}")
    if (folder / UNFINISHED).exists():
        raise DataError(f"dataset.data_root: the shards in {folder} are not finished; run proteus pack again")
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


def _add(images: list[Entry], member: tarfile.TarInfo) -> bool:
    """Add an image to the list; return whether it is an image file, but not the image of a sample."""
    # WebDataset: a file name up to its first dot is the sample's key; the rest is the type of the file.
    stem, _, ending = member.name.rpartition("/")[2].partition(".")
    is_sample = stem and "\0" not in member.name and not any(map(is_junk, member.name.split("/")))
    if f".{ending}".lower() in EXTENSIONS and is_sample:
        images.append((member.name, member.offset_data, member.size))
        return False
    return member.name.lower().endswith(EXTENSIONS)


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
    report_skipped(shards, str(folder))


def report_skipped(shards: Sequence[Shard], root: str) -> None:
    """Log how many image files of a set are not the image of a sample."""
    skipped = sum(shard.skipped for shard in shards)
    if skipped:
        print_log(
            f"{root}: {skipped:,} files such as 0001.mask.png are not the image of a sample and are skipped", "current"
        )
