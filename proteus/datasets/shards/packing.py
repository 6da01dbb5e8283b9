"""Pack a folder of images into WebDataset shards."""

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


def pack(
    source: Path,
    target: Path,
    short_side: int | None = None,
    quality: int = 90,
    per_shard: int = 1000,
    workers: int = 1,
    report: Callable[[str], None] = print,
) -> Index:
    """Pack all images below a folder, sorted by name, into shards of equal count.

    Every image is decoded completely; unreadable ones are reported and left out. Images that need no reduction are
    stored byte for byte, others as JPEGs. Each shard is read back after writing, and the index is written last. Call it
    again after an interruption to resume with the first incomplete shard.

    Args:
        source: Folder of the images.
        target: Folder for ``00000.tar``, ``00001.tar``, ... and the index.
        short_side: Reduce images with a longer shorter side to this many pixels; None keeps all sizes.
        quality: JPEG quality of reduced images, up to 95; at 95 they take a third longer to decode than at 90.
        per_shard: Images per shard.
        workers: Number of processes.
        report: Called with a line of text after every shard.

    Returns:
        The index.

    Raises:
        FileNotFoundError: The folder does not exist, or has no images.
        ModuleNotFoundError: webdataset is not installed.
        DataError: ``target`` has shards of other images or settings, or a damaged index, or a setting is out of range.
        LockedError: Another process packs to ``target``.
        FullDiskError: The disk is full; the message names the shard.
        OSError: A shard cannot be written, or reads back differently.
    """
    _check_webdataset()
    if per_shard < 1 or workers < 1 or not 1 <= quality <= 95 or (short_side is not None and short_side < 1):
        raise DataError("per-shard, workers and short-side must be 1 or more, and quality 1 to 95")
    source = source.expanduser()
    if realpath(source) == realpath(target.expanduser()):
        raise DataError(f"{target} has the images to pack; name another folder for the shards")
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
        return _pack(source, target, names, settings, workers, report)


def _pack(
    source: Path,
    target: Path,
    names: list[str],
    settings: dict[str, Any],
    workers: int,
    report: Callable[[str], None],
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
        report(_progress(task, list(done.values()), len(tasks)))
    finished = [done[task.path] for task in tasks]
    left_out = {name: reason for task in finished for name, reason in task.left_out.items()}
    index = Index([task.shard for task in finished if task.shard is not None], settings, left_out)
    write_index(target / INDEX, index)
    (target / UNFINISHED).unlink()
    return index


def keys_of(names: Sequence[str]) -> list[str]:
    """Make unique WebDataset keys of file names: without the ending, and without dots in the last component."""
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
    """Pack shards, in order with one worker, else in order of completion; few are queued at a time."""
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
        raise ModuleNotFoundError("packing needs webdataset: pip install webdataset (reading does not)") from error


def _check_settings(target: Path, settings: dict[str, Any]) -> None:
    unfinished = target / UNFINISHED
    index = load_index(target / INDEX)
    if unfinished.exists():
        earlier = _read_settings(unfinished)
    elif index is not None:
        earlier = index.settings
    elif any(target.glob("*.tar")):
        raise DataError(f"{target} has shards of another tool; give an empty folder")
    else:
        return
    other = [key for key, value in settings.items() if earlier.get(key) != value]
    if other:
        changed = ", ".join("the images themselves" if key == "names" else f"{key}={earlier.get(key)}" for key in other)
        raise DataError(f"{target} has shards with other settings ({changed}); give an empty folder")


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("not a JSON object")
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
