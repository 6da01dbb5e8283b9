"""ImageNet-C on disk, made from a validation folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from hashlib import sha1
from itertools import groupby
from pathlib import Path
from typing import Any

from proteus.datasets.robustness.imagenet_variants import ImageNetVariant
from proteus.datasets.transforms import CenterCrop, LoadImage, Resize
from proteus.datasets.transforms.corruption import (
    CORRUPTIONS,
    QUALITY,
    SEVERITIES,
    check_corruptions,
    corrupt,
    encode,
    image_name,
    library,
)
from proteus.structures import DataError
from proteus.utils import exclusive, write_bytes, write_json
from proteus.utils.argument_checks import check_whole

MARKER = "generated.json"


@dataclass
class Marker:
    """What stands in the file that tells a generated ImageNet-C from the released one.

    Attributes:
        library: The corruption library and its version.
        images: Number of validation images.
        names: SHA-1 of their names.
        quality: Of the JPEGs.
        finished: The corruptions of which every image was written.
    """

    library: str
    images: int
    names: str
    quality: int = QUALITY
    finished: list[str] = field(default_factory=list)


@dataclass
class ClassTask:
    """The images of one class, all of whose corruptions one process makes."""

    wnid: str
    sources: list[Path]
    target: Path
    corruptions: tuple[str, ...]


def generate(
    source: str | Path,
    target: str | Path,
    corruptions: Sequence[str] = CORRUPTIONS,
    workers: int = 1,
    all_classes: bool = True,
    tell: Callable[[str], None] = print,
) -> Marker:
    """Write the five severities of some corruptions of all validation images, laid out as ImageNet-C without groups.

    As its authors made it: shorter side to 256 px (bilinear), middle 224 px, corruption, JPEG of quality 85. An image
    depends on the original's pixels, its class and name, the corruption, the severity and the library's version alone.
    Interrupted and called again, this writes what is not there yet; further corruptions may be added later.

    Args:
        source: The validation images, a folder for each class, called by its wnid.
        target: Folder to write to. All 15 corruptions of 50,000 images take about as much as the released archives.
        corruptions: Which.
        workers: Processes.
        all_classes: All 1,000 class folders must be there.
        tell: Takes a line about every class.

    Returns:
        What was written to ``generated.json``.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it, or the corruption library is not installed.
        LockedError: Another process writes to ``target``.
        DataError: There is no such corruption, a setting is out of range, the folders are not the classes', two images
            would be written to one file, or ``target`` holds images from elsewhere, or of other images, or of another
            version of the library, or lies in ``source``.
        CorruptImageError: A validation image cannot be read.
    """
    try:
        check_corruptions(corruptions, SEVERITIES)
        check_whole("workers", workers)
    except ValueError as error:
        raise DataError(str(error)) from error
    here, there = (Path(os.path.realpath(Path(folder).expanduser())) for folder in (source, target))
    if here == there or here in there.parents:
        raise DataError(f"{target} lies in the folder of the validation images; name another folder for ImageNet-C")
    images = ImageNetVariant(variant="val" if all_classes else None, data_root=str(source))
    root, target = Path(source).expanduser(), Path(target).expanduser()
    names = [Path(name).as_posix() for name in images.names()]
    _check_stems(names)
    marker = Marker(library(), len(names), sha1("\n".join(names).encode(errors="surrogateescape")).hexdigest())
    _finished(target, marker)  # refuse an unrelated folder before anything is written there
    with exclusive(target, "generating ImageNet-C"):
        return _generate(root, target, names, marker, corruptions, workers, tell)


def _generate(
    root: Path,
    target: Path,
    names: Sequence[str],
    marker: Marker,
    corruptions: Sequence[str],
    workers: int,
    tell: Callable[[str], None],
) -> Marker:
    marker.finished = _finished(target, marker)
    _write(target, marker)
    tasks = [
        ClassTask(wnid, [root / name for name in group], target, tuple(corruptions))
        for wnid, group in groupby(names, key=lambda name: name.partition("/")[0])
    ]
    started, made, done = time.monotonic(), 0, 0
    for task, written in _run(tasks, workers):
        done, made = done + 1, made + written
        tell(_progress(task, written, done, len(tasks), made, time.monotonic() - started))
    marker.finished = [name for name in CORRUPTIONS if name in (*marker.finished, *corruptions)]
    _write(target, marker)
    return marker


def generate_class(task: ClassTask) -> int:
    """Write what is missing of one class; returns how many images that were.

    Raises:
        CorruptImageError: A validation image cannot be read.
    """
    load, resize, crop = LoadImage(), Resize(256, "bilinear"), CenterCrop(224)
    written = 0
    for source in task.sources:
        paths = {
            (corruption, severity): task.target / corruption / str(severity) / task.wnid / f"{source.stem}.JPEG"
            for corruption in task.corruptions
            for severity in SEVERITIES
        }
        # A power failure can leave an empty file under the final name.
        missing = {key: path for key, path in paths.items() if not (path.exists() and path.stat().st_size)}
        if not missing:
            continue
        image = crop(resize(load({"img_path": str(source)})))["img"]
        for (corruption, severity), path in missing.items():
            content = encode(corrupt(image, corruption, severity, image_name(str(source))))
            write_bytes(path, content, durable=False)
            written += 1
    return written


def read_marker(root: Path) -> Marker | None:
    """What is known of a generated ImageNet-C; None for another folder.

    Raises:
        DataError: The file is not what :func:`generate` writes.
    """
    path = root / MARKER
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Marker(**content)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not what tools/generate_imagenet_c.py writes ({error}); generate anew") from error


def _finished(target: Path, marker: Marker) -> list[str]:
    """The corruptions that are complete already."""
    earlier = read_marker(target)
    if earlier is None:
        if target.exists() and any(path.name != ".lock" for path in target.iterdir()):
            raise DataError(f"{target} holds files from elsewhere; give an empty folder")
        return []
    for key, what in (("library", "with"), ("quality", "in quality"), ("images", "from so many images:")):
        if getattr(earlier, key) != getattr(marker, key):
            raise DataError(f"{target} was generated {what} {getattr(earlier, key)}, not {getattr(marker, key)}")
    if earlier.names != marker.names:
        raise DataError(f"{target} was generated from images with other names; give an empty folder")
    return earlier.finished


def _write(target: Path, marker: Marker) -> None:
    write_json(target / MARKER, asdict(marker), indent=1)


def _check_stems(names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        wnid, _, inner = name.partition("/")
        if "/" in inner:
            raise DataError(f"{name} is not directly in the folder {wnid}; WNID/IMAGE is expected")
        if stem in seen:
            raise DataError(f"{name} and {seen[stem]} would both be written as {stem}.JPEG; rename or remove one")
        seen[stem] = name


def _run(tasks: Sequence[ClassTask], workers: int) -> Iterator[tuple[ClassTask, int]]:
    if workers == 1:
        for task in tasks:
            yield task, generate_class(task)
        return
    with ProcessPoolExecutor(workers) as pool:
        futures = {pool.submit(generate_class, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def _progress(task: ClassTask, written: int, done: int, total: int, made: int, seconds: float) -> str:
    line = f"{done}/{total} {task.wnid}: {written:,} images written"
    there = len(task.sources) * len(task.corruptions) * len(SEVERITIES) - written
    if there:
        line += f", {there:,} were there"
    if made and done < total:
        minutes = seconds / done * (total - done) / 60
        line += f"; {made / seconds:.0f} images/s, about {minutes // 60:.0f} h {minutes % 60:.0f} min left"
    return line
