"""What is wrong with images and depth maps, found before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from proteus.datasets.depth.listing import Pair
from proteus.datasets.transforms.depth_loading import check_depth_mode, read_depth
from proteus.structures import CorruptImageError, DataError
from proteus.utils.image_files import opened
from proteus.utils.images import upright_size

NEAREST, FARTHEST = 0.1, 10.0
"""Metres: in no indoor set is the middle of all depths nearer than the one, or farther than the other."""
_SCALES = (1, 10, 100, 256, 1000, 2000, 4000, 5000, 6000, 8000, 10000)
_USUAL = 2.5
_THREADS = 8


def check_headers(pairs: Sequence[Pair]) -> None:
    """Open every file, decode none.

    Args:
        pairs: The images and depth maps.

    Raises:
        DataError: A file is no image, a depth map has not 16 bits, or a pair's sizes differ; names the first, and says
            how many there are.
    """
    with ThreadPoolExecutor(_THREADS) as pool:  # what takes time is the disk's, or the network's
        problems = [problem for problem in pool.map(_problem, pairs) if problem]
    if problems:
        more = f"\n{len(problems):,} of {len(pairs):,} pairs cannot be used; this is the first" if problems[1:] else ""
        raise DataError(problems[0] + more)


def check_depths(pairs: Sequence[Pair], depth_scale: float, sample: int | None = 16) -> None:
    """Read some depth maps, spread over the set, and refuse what cannot be metres.

    Args:
        pairs: The images and depth maps.
        depth_scale: Stored numbers to the metre.
        sample: How many to read; None for all, 0 for none.

    Raises:
        DataError: A map has no valid depth or cannot be read, or depths lie, in the middle, below 0.1 m or beyond 10 m.
    """
    count = len(pairs) if sample is None else min(sample, len(pairs))
    if not count:
        return
    chosen = [pairs[position] for position in np.linspace(0, len(pairs) - 1, count).round().astype(int)]
    with ThreadPoolExecutor(_THREADS) as pool:
        ranges = list(pool.map(_range, chosen))
    middle = float(np.median([median for _, _, median in ranges]))
    if NEAREST <= middle / depth_scale <= FARTHEST:
        return
    lowest, highest = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    likely = min(_SCALES, key=lambda scale: abs(np.log(middle / scale / _USUAL)))
    raise DataError(
        f"dataset.depth_scale={depth_scale:g} cannot be right: it makes the depths of {count} maps "
        f"({chosen[0].depth} is the first) {lowest / depth_scale:g} to {highest / depth_scale:g} m, "
        f"{middle / depth_scale:g} m in the middle. They store {lowest} to {highest}; depth_scale={likely} would make "
        f"the middle {middle / likely:.2f} m"
    )


def _problem(pair: Pair) -> str | None:
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
            f"{pair.depth} has {depth_width} x {depth_height} pixels, its image {pair.image} {width} x {height} "
            f"({pair.where}): they must show the same"
        )
    return None


def _range(pair: Pair) -> tuple[int, int, float]:
    try:
        stored = read_depth(pair.depth)
    except CorruptImageError as error:
        raise DataError(f"cannot read {error} ({pair.where})") from error
    valid = stored[stored > 0]
    if not valid.size:
        raise DataError(f"{pair.depth} ({pair.where}) has no valid depth: every pixel is 0; remove the pair")
    return int(valid.min()), int(valid.max()), float(np.median(valid))
