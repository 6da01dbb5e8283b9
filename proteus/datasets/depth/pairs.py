"""Pairs of an image and a depth map: list them, and check their files before training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.fine_grained.listing import Listed, missing_images
from proteus.datasets.proxy.folder import EXTENSIONS
from proteus.datasets.transforms.depth_loading import check_depth_mode, read_depth
from proteus.structures import CorruptImageError, DataError
from proteus.utils.files import check_inside, decode_text, walk
from proteus.utils.image_files import opened
from proteus.utils.images import upright_size

NEAREST, FARTHEST = 0.1, 10.0
"""Plausible range in metres of the median depth of an indoor set."""
_COMMON_SCALES = (1, 10, 100, 256, 1000, 2000, 4000, 5000, 6000, 8000, 10000)
_TYPICAL_DEPTH = 2.5  # metres
_THREADS = 8
# Stands in a list in place of a depth map for an image that has none.
_NO_DEPTH = "None"


class Pair(NamedTuple):
    """An image and its depth map.

    Attributes:
        image: Path of the image.
        depth: Path of the depth map.
        where: Where the pair is listed, for messages.
    """

    image: str
    depth: str
    where: str


class Line(NamedTuple):
    """A line of a list of pairs: both names and the focal length as text, and the place of the line for messages."""

    image: str
    depth: str
    focal: str
    where: str


def read_split_file(path: Path, root: Path) -> tuple[list[Pair], int]:
    """Read a list in the format of BTS and the Monocular-Depth-Estimation-Toolbox, and check that its files exist.

    Args:
        path: The list; see :func:`parse_split`.
        root: Folder of the files. Their names may start with a slash.

    Returns:
        The pairs sorted by image, as in the toolbox, and the number of images listed without a depth map.

    Raises:
        DataError: A line is malformed, a name leads out of ``root``, the list is not text, or files are missing.
    """
    lines, without = parse_split(decode_text(path.read_bytes(), str(path)), str(path))

    def below(name: str, where: str) -> str:
        return str(root / check_inside(name.lstrip("/\\"), where))

    pairs = [Pair(below(line.image, line.where), below(line.depth, line.where), line.where) for line in lines]
    _check_missing(pairs)
    return sorted(pairs), without


def parse_split(text: str, name: str) -> tuple[list[Line], int]:
    """Parse a list of pairs.

    A line is ``/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579``: image, depth map and,
    optionally, the focal length in pixels, which is not used. Empty lines are skipped.

    Args:
        text: Content of the list.
        name: Name of the list for messages.

    Returns:
        The lines in order, and the number of lines with ``None`` in place of a depth map.

    Raises:
        DataError: A line does not have these columns.
    """
    found, without = [], 0
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if not fields:
            continue
        where = f"{name}, line {number}"
        if len(fields) not in (2, 3) or (len(fields) == 3 and not _is_number(fields[2])):
            raise DataError(
                f"{where}: {line!r} is not IMAGE DEPTH FOCAL, for instance "
                "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579"
            )
        if fields[1] == _NO_DEPTH:
            without += 1
        else:
            found.append(Line(fields[0], fields[1], fields[2] if fields[2:] else "", where))
    return found, without


def list_folders(images: Path, depths: Path) -> list[Pair]:
    """Pair the images below one folder with the PNGs of the same names below another, as mmseg does.

    Args:
        images: Folder of the images; subfolders are searched.
        depths: Folder of the depth maps.

    Returns:
        The pairs sorted by image.

    Raises:
        DataError: Files are missing.
    """
    pairs = []
    found = walk(images, EXTENSIONS)
    for line in found.skipped:
        print_log(f"{images}: {line}", "current")
    for name in found.files:
        image = images / name
        pairs.append(Pair(str(image), str((depths / name).with_suffix(".png")), f"for {image}"))
    _check_missing(pairs)
    return sorted(pairs)


def check_headers(pairs: Sequence[Pair]) -> None:
    """Check the file headers of all pairs; nothing is decoded.

    Args:
        pairs: The pairs.

    Raises:
        DataError: A file is not an image, a depth map does not have 16 bits, or the sizes of a pair differ. The message
            names the first such pair and their number.
    """
    with ThreadPoolExecutor(_THREADS) as pool:  # threads: the time is spent waiting for the disk or the network
        problems = [problem for problem in pool.map(_header_problem, pairs) if problem]
    if problems:
        more = f"\n{len(problems):,} of {len(pairs):,} pairs cannot be used; this is the first" if problems[1:] else ""
        raise DataError(problems[0] + more)


def check_depths(pairs: Sequence[Pair], depth_scale: float, sample: int | None = 16) -> None:
    """Read some depth maps, evenly spaced over the set, and check that ``depth_scale`` gives plausible depths.

    Args:
        pairs: The pairs.
        depth_scale: Stored value of one metre.
        sample: Number of maps to read; None for all, 0 for none.

    Raises:
        DataError: A map has no valid depth or cannot be read, or the median depth is below 0.1 m or beyond 10 m.
    """
    count = len(pairs) if sample is None else min(sample, len(pairs))
    if not count:
        return
    chosen = [pairs[position] for position in np.linspace(0, len(pairs) - 1, count).round().astype(int)]
    with ThreadPoolExecutor(_THREADS) as pool:
        ranges = list(pool.map(_depth_range, chosen))
    median = float(np.median([middle for _, _, middle in ranges]))
    if NEAREST <= median / depth_scale <= FARTHEST:
        return
    lowest, highest = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    likely = min(_COMMON_SCALES, key=lambda scale: abs(np.log(median / scale / _TYPICAL_DEPTH)))
    raise DataError(
        f"dataset.depth_scale={depth_scale:g} is implausible: {count} depth maps (the first is {chosen[0].depth}) "
        f"store {lowest} to {highest}, which makes {lowest / depth_scale:g} to {highest / depth_scale:g} m with a "
        f"median of {median / depth_scale:g} m; depth_scale={likely} would make the median {median / likely:.2f} m"
    )


def _check_missing(pairs: list[Pair]) -> None:
    listed = [Listed(path, 0, pair.where) for pair in pairs for path in (pair.image, pair.depth)]
    missing = missing_images(listed)
    if missing:
        raise DataError(
            f"{missing[0].path} is missing ({missing[0].where})"
            + (f", and {len(missing) - 1:,} more files" if len(missing) > 1 else "")
            + "; complete the set, or correct dataset.data_root"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _header_problem(pair: Pair) -> str | None:
    try:
        sizes = [upright_size(pair.image)]
        with opened(pair.depth) as depth:
            check_depth_mode(pair.depth, depth)
            sizes.append(depth.size)
    except DataError as error:
        return str(error)
    except CorruptImageError as error:
        return f"cannot read {error} ({pair.where})"
    if sizes[0] != sizes[1]:
        (width, height), (depth_width, depth_height) = sizes
        return (
            f"{pair.depth} has {depth_width} x {depth_height} pixels, but its image {pair.image} has {width} x {height}"
            f" ({pair.where}): their sizes must be equal"
        )
    return None


def _depth_range(pair: Pair) -> tuple[int, int, float]:
    try:
        stored = read_depth(pair.depth)
    except CorruptImageError as error:
        raise DataError(f"cannot read {error} ({pair.where})") from error
    valid = stored[stored > 0]
    if not valid.size:
        raise DataError(f"{pair.depth} ({pair.where}) has no valid depth: every pixel is 0; remove the pair")
    return int(valid.min()), int(valid.max()), float(np.median(valid))
