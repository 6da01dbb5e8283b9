"""Pack a folder of images into WebDataset shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from hashlib import sha1
from itertools import islice
from os.path import realpath, splitext
from pathlib import Path
from typing import Any

from proteus.datasets.proxy.folder import list_images
from proteus.datasets.shards.destinations import Destination, open_destination
from proteus.datasets.shards.index_file import Index
from proteus.datasets.shards.shard_writing import Packing
from proteus.structures import DataError
from proteus.utils import exclusive
from proteus.utils.urls import is_url


def pack(
    source: Path,
    target: str | Path,
    short_side: int | None = None,
    quality: int = 90,
    per_shard: int = 1000,
    workers: int = 1,
    report: Callable[[str], None] = print,
    shuffle: bool = False,
) -> Index:
    """Pack all images below a folder, sorted by name, into shards of equal count.

    Every image is decoded completely; unreadable ones are reported and left out. Images that need no reduction are
    stored byte for byte, others as JPEGs. Each shard is read back after writing, and the index is written last. Call it
    again after an interruption to resume with the first incomplete shard. For a URL, each shard is written to this
    machine, uploaded, checked and removed; one machine at a time may pack to a URL.

    Args:
        source: Folder of the images.
        target: Folder or URL for ``00000.tar``, ``00001.tar``, ... and the index.
        short_side: Reduce images with a longer shorter side to this many pixels; None keeps all sizes.
        quality: JPEG quality of reduced images, up to 95; at 95 they take a third longer to decode than at 90.
        per_shard: Images per shard.
        workers: Number of processes.
        report: Called with a line of text after every shard.
        shuffle: Pack the images in an order that depends on their names alone but looks random, so that each shard has
            images of all classes, which :class:`~proteus.datasets.proxy.shard_sampler.ShardSampler` needs.

    Returns:
        The index.

    Raises:
        ModuleNotFoundError: webdataset is not installed.
        DataError: The folder does not exist, or has no images; ``target`` has shards of other images or settings, or a
            damaged index, or cannot be reached; or a setting is out of range.
        LockedError: Another process packs to ``target``.
        FullDiskError: The disk is full; the message names the shard.
        OSError: A shard cannot be written, or reads back differently.
    """
    _check_webdataset()
    if per_shard < 1 or workers < 1 or not 1 <= quality <= 95 or (short_side is not None and short_side < 1):
        raise DataError("per-shard, workers and short-side must be 1 or more, and quality 1 to 95")
    source = source.expanduser()
    if not is_url(str(target)):
        target = Path(target).expanduser()
    if realpath(source) == realpath(target):
        raise DataError(f"{target} has the images to pack; name another folder for the shards")
    destination = open_destination(target)
    names = list_images(source, "source")
    if shuffle:
        names.sort(key=lambda name: sha1(name.encode(errors="surrogateescape")).digest())
    settings = {
        "short_side": short_side,
        "quality": quality,
        "per_shard": per_shard,
        "shuffle": shuffle,
        "images": len(names),
        "names": sha1("\n".join(names).encode(errors="surrogateescape")).hexdigest(),
    }
    destination.check(settings)  # before a lock file is written into an unrelated folder
    with exclusive(destination.folder, "packing shards"):
        return _pack(source, destination, names, settings, workers, report)


def _pack(
    source: Path,
    destination: Destination,
    names: list[str],
    settings: dict[str, Any],
    workers: int,
    report: Callable[[str], None],
) -> Index:
    destination.check(settings)
    short_side, quality, per_shard = settings["short_side"], settings["quality"], settings["per_shard"]
    destination.begin(settings)
    images = list(zip(names, keys_of(names), strict=True))
    folder = destination.folder
    tasks = [
        Packing(folder / f"{start // per_shard:05}.tar", source, images[start : start + per_shard], short_side, quality)
        for start in range(0, len(images), per_shard)
    ]
    done: dict[Path, Packing] = {}
    for task in _run(destination.pack, tasks, workers):
        done[task.path] = task
        report(_progress(task, list(done.values()), len(tasks)))
    finished = [done[task.path] for task in tasks]
    left_out = {name: reason for task in finished for name, reason in task.left_out.items()}
    index = Index([task.shard for task in finished if task.shard is not None], settings, left_out)
    destination.finish(index)
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


def _run(pack_shard: Callable[[Packing], Packing], tasks: Sequence[Packing], workers: int) -> Iterator[Packing]:
    """Pack shards, in order with one worker, else in order of completion; few are queued at a time."""
    if workers == 1:
        yield from map(pack_shard, tasks)
        return
    waiting = iter(tasks)
    # A destination may hold the index of all shards, which is handed to each worker once.
    with ProcessPoolExecutor(min(workers, len(tasks)), initializer=_start_worker, initargs=(pack_shard,)) as pool:
        running: set[Future[Packing]] = set()
        try:
            while True:
                running |= {pool.submit(_pack_in_worker, task) for task in islice(waiting, 2 * workers - len(running))}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


_pack_shard: Callable[[Packing], Packing]


def _start_worker(pack_shard: Callable[[Packing], Packing]) -> None:
    global _pack_shard
    _pack_shard = pack_shard


def _pack_in_worker(task: Packing) -> Packing:
    return _pack_shard(task)


def _check_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("packing needs webdataset: pip install webdataset (reading does not)") from error


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
