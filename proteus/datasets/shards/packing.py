"""A folder of images into WebDataset shards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from hashlib import sha1
from io import BytesIO
from itertools import islice
from os.path import realpath, splitext
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.folder import ImageFolder
from proteus.datasets.shards.index import INDEX, UNFINISHED, Index, Shard, load_index, scan, write_index
from proteus.structures import CorruptImageError, DataError
from proteus.utils import atomic_path, exclusive, write_json
from proteus.utils.image_files import read_content
from proteus.utils.images import open_rgb, upright_size


@dataclass
class Packing:
    """What goes into one shard, and what became of it.

    Attributes:
        path: The shard.
        source: Folder of the images.
        images: Name below that folder, and key in the shard, of each image.
        short_side: Images with a longer shorter side are reduced to this many pixels; None for none.
        quality: JPEG quality of those that are reduced.
        left_out: The images that could not be read, and why.
        shard: What was written.
        made: It was written now, not by an earlier run.
        seconds: How long that took.
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


def pack(
    source: Path,
    target: Path,
    short_side: int | None = None,
    quality: int = 90,
    per_shard: int = 1000,
    workers: int = 1,
    tell: Callable[[str], None] = print,
) -> Index:
    """Pack all images below a folder, sorted by name, into shards of equal count.

    Every image is decoded to its end; one that cannot be is named and left out. An image that need not be reduced goes
    in byte for byte, another as JPEG. Each shard is read back when it is written, and the index is written last.
    Interrupted and called again, this goes on with the first shard that is not complete.

    Args:
        source: The folder.
        target: Folder for ``00000.tar``, ``00001.tar``, ... and the index.
        short_side: Reduce images whose shorter side is longer than this many pixels; None keeps all as they are.
        quality: JPEG quality of the images that are reduced, up to 95; at 95 they take a third longer to decode than at
            90.
        per_shard: Images in a shard.
        workers: Processes.
        tell: Takes a line about every shard.

    Returns:
        The index.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ModuleNotFoundError: webdataset is not installed.
        DataError: ``target`` holds shards of other images or in other settings, or a damaged index, or a setting is out
            of range.
        LockedError: Another process packs to ``target``.
        FullDiskError: The disk is full; names the shard.
        OSError: A shard cannot be written, or does not read as it was written.
    """
    _check_webdataset()
    if per_shard < 1 or workers < 1 or not 1 <= quality <= 95 or (short_side is not None and short_side < 1):
        raise DataError("per-shard, workers and short-side must be 1 or more, and quality 1 to 95")
    source = source.expanduser()
    if realpath(source) == realpath(target.expanduser()):
        raise DataError(f"{target} holds the images that are packed; name another folder for the shards")
    names = ImageFolder(str(source)).names()
    settings = {
        "short_side": short_side,
        "quality": quality,
        "per_shard": per_shard,
        "images": len(names),
        "names": sha1("\n".join(names).encode(errors="surrogateescape")).hexdigest(),
    }
    _check_settings(target, settings)  # before a lock file is written into an unrelated folder
    with exclusive(target, "packing shards"):
        return _pack(source, target, names, settings, workers, tell)


def _pack(
    source: Path,
    target: Path,
    names: list[str],
    settings: dict[str, Any],
    workers: int,
    tell: Callable[[str], None],
) -> Index:
    _check_settings(target, settings)
    short_side, quality, per_shard = settings["short_side"], settings["quality"], settings["per_shard"]
    write_json(target / UNFINISHED, settings)
    images = list(zip(names, keys_of(names), strict=True))
    tasks = [
        Packing(target / f"{start // per_shard:05}.tar", source, images[start : start + per_shard], short_side, quality)
        for start in range(0, len(images), per_shard)
    ]
    done: dict[Path, Packing] = {}
    for task in _run(tasks, workers):
        done[task.path] = task
        tell(_progress(task, list(done.values()), len(tasks)))
    finished = [done[task.path] for task in tasks]
    left_out = {name: reason for task in finished for name, reason in task.left_out.items()}
    index = Index([task.shard for task in finished if task.shard is not None], settings, left_out)
    write_index(target / INDEX, index)
    (target / UNFINISHED).unlink()
    return index


def keys_of(names: Sequence[str]) -> list[str]:
    """WebDataset's keys for some file names: without the ending, without a dot in the last part, and each only once."""
    keys: dict[str, None] = {}
    for name in names:
        folder, slash, last = splitext(name)[0].rpartition("/")
        key = stem = folder + slash + last.replace(".", "_")
        number = 1
        while key in keys:
            number += 1
            key = f"{stem}_{number}"
        keys[key] = None
    return list(keys)


def encode(path: Path, short_side: int | None, quality: int) -> tuple[str, bytes]:
    """Give an image's ending and content as they go into a shard.

    Raises:
        CorruptImageError: It cannot be read to its end.
    """
    content = read_content(path)
    image = open_rgb(content, path, short_side)
    if short_side is None or min(upright_size(content, path)) <= short_side:
        return path.suffix[1:].lower(), content
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return "jpg", file.getvalue()


def pack_shard(task: Packing) -> Packing:
    """Write one shard, unless it is there and complete.

    Raises:
        OSError: It cannot be written, or does not read as it was written.
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
            raise DataError(f"{task.path} does not read as it was written: is the disk full or damaged?")
    task.shard = Shard(task.path.name, shard.bytes, shard.images)
    task.seconds = time.monotonic() - started
    return task


def _is_complete(task: Packing) -> bool:
    if not task.path.exists():
        return False
    shard = scan(task.path)
    there = {splitext(name)[0] for name, _, _ in shard.images}
    for name, key in task.images:
        if key in there:
            continue
        try:
            encode(task.source / name, task.short_side, task.quality)
        except CorruptImageError as error:
            task.left_out[name] = str(error)
        else:
            task.left_out.clear()
            return False
    task.shard = shard
    return not shard.cut and len(there) + len(task.left_out) == len(task.images)


def _run(tasks: Sequence[Packing], workers: int) -> Iterator[Packing]:
    """Pack shards in order with one worker, else as they come; few are under way at a time."""
    if workers == 1:
        yield from map(pack_shard, tasks)
        return
    waiting = iter(tasks)
    with ProcessPoolExecutor(min(workers, len(tasks))) as pool:
        running: set[Future[Packing]] = set()
        try:
            while True:
                running |= {pool.submit(pack_shard, task) for task in islice(waiting, 2 * workers - len(running))}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _check_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("packing needs webdataset: pip install -e '.[shards]' (reading does not)") from error


def _check_settings(target: Path, settings: dict[str, Any]) -> None:
    unfinished = target / UNFINISHED
    index = load_index(target / INDEX)
    if unfinished.exists():
        earlier = _read_settings(unfinished)
    elif index is not None:
        earlier = index.settings
    elif any(target.glob("*.tar")):
        raise DataError(f"{target} holds shards from elsewhere; give an empty folder")
    else:
        return
    other = [key for key, value in settings.items() if earlier.get(key) != value]
    if other:
        changed = ", ".join("the images themselves" if key == "names" else f"{key}={earlier.get(key)}" for key in other)
        raise DataError(f"{target} holds shards that were made otherwise ({changed}); give an empty folder")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("no JSON object")
        return settings
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); empty the folder and pack again") from error


def _progress(task: Packing, done: Sequence[Packing], total: int) -> str:
    assert task.shard is not None
    words = [
        f"{len(done)}/{total} {task.path.name}: {len(task.shard.images):,} images, {task.shard.bytes / 1e6:.1f} MB"
    ]
    if not task.made:
        words.append("was there")
    elif task.seconds > 0:
        words.append(f"{len(task.images) / task.seconds:.0f} images/s")
    left_out = (f"  corrupt, left out: {reason}" for reason in task.left_out.values())
    return "\n".join([", ".join(words), *left_out])
