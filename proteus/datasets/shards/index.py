"""What stands where in WebDataset shards: plain tar files, a sample's files one after another."""

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
from proteus.utils.files import is_junk, no_folder
from proteus.utils.images import EXTENSIONS

INDEX = "proteus-index.json"
UNFINISHED = "proteus-packing.json"
_VERSION = 1


@dataclass
class Shard:
    """One tar file.

    Attributes:
        name: Its name within the folder.
        bytes: Its size.
        images: Name, offset and size in bytes of each image.
        skipped: Files with an image's ending that are not a sample's only image, such as ``0001.mask.png``.
        cut: It had no proper end when this was written.
    """

    name: str
    bytes: int
    images: list[tuple[str, int, int]]
    skipped: int = 0
    cut: bool = False

    def lost(self, size: int) -> int:
        """How many of the images end behind the first ``size`` bytes."""
        return sum(offset + length > size for _, offset, length in self.images)


@dataclass
class Index:
    """The shards of a folder.

    Attributes:
        shards: In the order of their names.
        settings: How they were packed; empty for shards from elsewhere.
        left_out: Images that could not be packed, and why.
    """

    shards: list[Shard]
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def scan(path: Path) -> Shard:
    """Read a tar file's headers, as far as it goes."""
    shard = Shard(path.name, path.stat().st_size, [])
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg():
                    _add(shard, member)
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError, ValueError):  # ValueError: numbers in the headers
        shard.cut = True
        return shard
    # tarfile ends without a word at a damaged header, and between two images where the end mark is missing.
    with path.open("rb") as file:
        file.seek(end)
        shard.cut = file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE)
    return shard


def read_index(folder: Path) -> Index:
    """The index of a folder of shards; where there is none, or shards came or grew, they are scanned and it is kept.

    It is kept in the folder, or, where that cannot be written to, below ``PROTEUS_CACHE`` (default
    ``~/.cache/proteus``). Of several processes, the first one scans and the others wait. Shards that are shorter than
    the index says are damaged: they are reported, and their index stays.

    Raises:
        FileNotFoundError: The folder does not exist, has no shards, or lacks shards that the index names.
        DataError: The shards are compressed, packing did not finish, or the index is damaged.
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
    """Write an index, whole or not at all."""
    summary = {"images": sum(len(shard.images) for shard in index.shards), "shards": len(index.shards)}
    write_json(path, {"version": _VERSION, **summary, "index": asdict(index)}, separators=(",", ":"))


def load_index(path: Path) -> Index | None:
    """Read an index; None if the file cannot be opened.

    Raises:
        DataError: The file is not our index, or is damaged; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); remove it, and it is written again") from error
    if isinstance(content, dict) and content.get("version", _VERSION) != _VERSION:
        raise DataError(f"{path} was written by another version; remove it, and it is written again")
    try:
        index = content["index"]
        found = Index([_shard(**shard) for shard in index["shards"]], dict(index["settings"]), dict(index["left_out"]))
        if len({shard.name for shard in found.shards}) < len(found.shards):
            raise ValueError("a shard is listed twice")
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it, and it is written again"
        ) from error


def _shard(name: str, bytes: int, images: Any, skipped: int = 0, cut: bool = False) -> Shard:
    if not isinstance(name, str) or not name.endswith(".tar") or "/" in name:
        raise ValueError(f"{name!r} is not the name of a shard")
    listed = [(str(image), int(offset), int(size)) for image, offset, size in images]
    if any(offset < 0 or size < 0 for _, offset, size in listed):
        raise ValueError(f"a negative position in {name}")
    return Shard(name, int(bytes), listed, int(skipped), bool(cut))


def _add(shard: Shard, member: tarfile.TarInfo) -> None:
    # WebDataset: what precedes the file name's first dot is the sample's key, what follows is the kind of file.
    stem, _, ending = member.name.rpartition("/")[2].partition(".")
    if f".{ending}".lower() in EXTENSIONS and stem and not any(map(is_junk, member.name.split("/"))):
        shard.images.append((member.name, member.offset_data, member.size))
    elif member.name.lower().endswith(EXTENSIONS):
        shard.skipped += 1


def _current(folder: Path, sizes: dict[str, int]) -> Index:
    places = [folder / INDEX, _cached(folder)]
    index = next((found for place in places if (found := load_index(place)) is not None), Index([]))
    known = {shard.name: shard for shard in index.shards}
    missing = sorted(known.keys() - sizes.keys())
    if missing:
        raise FileNotFoundError(
            f"dataset.data_root: {len(missing)} of {len(known)} shards are not in {folder} ({', '.join(missing[:5])}); "
            f"put them there, or remove {INDEX} to do without them"
        )
    new = [name for name, size in sizes.items() if name not in known or size > known[name].bytes]
    if new:
        known.update({name: scan(folder / name) for name in new})
        index.shards = [known[name] for name in sizes]
        _keep(index, places)
    _report(index.shards, sizes, folder)
    return index


def _keep(index: Index, places: Sequence[Path]) -> None:
    for place in places:
        try:
            write_index(place, index)
            return
        except (OSError, FullDiskError):
            continue
    print_log(f"the index of the shards could not be kept at {' or '.join(map(str, places))}", "current", 30)


def _cached(folder: Path) -> Path:
    cache = Path(os.environ.get("PROTEUS_CACHE", "~/.cache/proteus")).expanduser()
    return cache / f"shards-{sha1(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"


def _report(shards: Sequence[Shard], sizes: dict[str, int], folder: Path) -> None:
    for shard in shards:
        size = sizes[shard.name]
        if size < shard.bytes:
            print_log(
                f"{folder / shard.name} is cut short: {size:,} of {shard.bytes:,} bytes; {shard.lost(size):,} of its "
                f"{len(shard.images):,} images are corrupt (if the shard was made anew, remove {INDEX})",
                "current",
                30,
            )
        elif shard.cut:
            print_log(
                f"{folder / shard.name} is cut short after {size:,} bytes: of {len(shard.images):,} images "
                f"{shard.lost(size):,} are corrupt, and what followed them is unknown",
                "current",
                30,
            )
    skipped = sum(shard.skipped for shard in shards)
    if skipped:
        print_log(
            f"{folder}: {skipped:,} files such as 0001.mask.png are no sample's image and are not used", "current"
        )
