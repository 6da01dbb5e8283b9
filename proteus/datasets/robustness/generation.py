"""Generate ImageNet-C on disk from the validation images."""

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
from proteus.datasets.transforms import CenterCrop, LoadImage, ResizeEdge
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
    """Content of the file that distinguishes a generated ImageNet-C from the released one.

    Attributes:
        library: Name and version of the corruption library.
        images: Number of validation images.
        names: SHA-1 of their names.
        quality: JPEG quality.
        finished: Corruptions with all images written.
    """

    library: str
    images: int
    names: str
    quality: int = QUALITY
    finished: list[str] = field(default_factory=list)


@dataclass
class ClassTask:
    """Images of one class; one process generates all corruptions of them."""

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
    report: Callable[[str], None] = print,
) -> Marker:
    """Write all severities of some corruptions of the validation images, in ImageNet-C's layout without groups.

    Images are made as by the authors of ImageNet-C: shorter side to 256 px (bilinear), center crop of 224 px,
    corruption, JPEG of quality 85. An image depends only on the original's pixels, class and name, the corruption, the
    severity and the version of the library. Call it again after an interruption to write the missing images; more
    corruptions can be added later.

    Args:
        source: Validation images in one folder per class, named by wnid.
        target: Output folder. All 15 corruptions of 50,000 images take about as much space as the released archives.
        corruptions: Corruptions to generate.
        workers: Number of processes.
        all_classes: Require all 1,000 class folders.
        report: Called with a line of text after every class.

    Returns:
        Content of ``generated.json``.

    Raises:
        FileNotFoundError: The folder does not exist or has no images, or the corruption library is not installed.
        LockedError: Another process writes to ``target``.
        DataError: A corruption is unknown, a setting is out of range, the folders are not those of the classes, two
            images would be written to one file, or ``target`` has other files, or was generated from other images or
            with another version of the library, or lies in ``source``.
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
    _finished(target, marker)  # refuses an unrelated folder before anything is written there
    with exclusive(target, "generating ImageNet-C"):
        return _generate(root, target, names, marker, corruptions, workers, report)


def _generate(
    root: Path,
    target: Path,
    names: Sequence[str],
    marker: Marker,
    corruptions: Sequence[str],
    workers: int,
    report: Callable[[str], None],
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
        report(_progress(task, written, done, len(tasks), made, time.monotonic() - started))
    marker.finished = [name for name in CORRUPTIONS if name in (*marker.finished, *corruptions)]
    _write(target, marker)
    return marker


def generate_class(task: ClassTask) -> int:
    """Write the missing images of one class; returns their number.

    Raises:
        CorruptImageError: A validation image cannot be read.
    """
    load, resize, crop = LoadImage(), ResizeEdge(256, interpolation="bilinear"), CenterCrop(224)
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
    """Read the marker of a generated ImageNet-C; None for other folders.

    Raises:
        DataError: The file was not written by :func:`generate`, or is damaged.
    """
    path = root / MARKER
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Marker(**content)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} is damaged or was not written by tools/generate_imagenet_c.py ({error}); generate the images again"
        ) from error


def _finished(target: Path, marker: Marker) -> list[str]:
    """Return the corruptions that are complete; check that the folder belongs to the same images and settings."""
    earlier = read_marker(target)
    if earlier is None:
        if target.exists() and any(path.name != ".lock" for path in target.iterdir()):
            raise DataError(f"{target} has other files; give an empty folder")
        return []
    for key, form in (("library", "with {}"), ("quality", "with JPEG quality {}"), ("images", "from {} images")):
        values = [getattr(each, key) for each in (earlier, marker)]
        before, now = (f"{value:,}" if isinstance(value, int) else value for value in values)
        if before != now:
            raise DataError(f"{target} was generated {form.format(before)}, not {now}")
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
            raise DataError(f"{name} must be directly in the folder {wnid} (WNID/IMAGE)")
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
    existing = len(task.sources) * len(task.corruptions) * len(SEVERITIES) - written
    if existing:
        line += f", {existing:,} were there"
    if made and done < total:
        minutes = seconds / done * (total - done) / 60
        line += f"; {made / seconds:.0f} images/s, about {minutes // 60:.0f} h {minutes % 60:.0f} min left"
    return line
