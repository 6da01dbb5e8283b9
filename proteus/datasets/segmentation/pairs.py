"""Every image has its mask, of its size: told from names and file headers, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from PIL import Image
from tqdm import tqdm

from proteus.datasets.segmentation.check_labels import unknown_label
from proteus.structures import DataError

_ORIENTATION = 0x0112
_TOLD = 5


def check_folders(folders: dict[str, str], suffixes: dict[str, str], data_root: str | None) -> None:
    """Refuse a layout in which a folder is missing or empty.

    Args:
        folders: ``img_path`` and ``seg_map_path``.
        suffixes: The files' ends under the same keys.
        data_root: What they stand in, if anything.

    Raises:
        DataError: Names the folder, and the layout that is expected.
    """
    layout = "\n".join(f"    {folder}/*{suffixes[key]}" for key, folder in folders.items())
    for key, folder in folders.items():
        if not Path(folder).is_dir():
            fault = f"no such folder: {folder}"
        elif not any(Path(folder).rglob(f"*{suffixes[key]}")):
            fault = f"no *{suffixes[key]} in {folder}"
        else:
            continue
        raise DataError(
            f"{fault}; expected are images and masks of the same names:\n{layout}\n"
            f"  (data_root = {data_root!r}: name another with --cfg-options, or data_prefix where the folders differ)"
        )


def check_pairs(pairs: Sequence[tuple[str, str]], masks: Sequence[str]) -> None:
    """Refuse images without masks, masks without images, and pairs of two sizes.

    Args:
        pairs: Files of an image and of its mask.
        masks: Files of all masks that are there.

    Raises:
        DataError: Names the first of them, and how many there are.
    """
    there = {str(Path(path)) for path in masks}
    wanted = {str(Path(mask)): image for image, mask in pairs}
    alone = [f"{image}: its mask {mask} is missing" for mask, image in wanted.items() if mask not in there]
    alone += [f"{mask}: there is no image to this mask" for mask in sorted(there - wanted.keys())]
    _refuse(alone)
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        found = pool.map(_compare_sizes, pairs, chunksize=64)
        shown = tqdm(
            found,
            "comparing the sizes of images and masks",
            len(pairs),
            unit="pair",
            mininterval=2,
            disable=not is_main_process(),
        )
        _refuse([problem for problem in shown if problem])


def check_some_labels(masks: Sequence[str], count: int, num_classes: int, shift: int) -> None:
    """Read ``count`` masks spread over all, and refuse unknown labels.

    Args:
        masks: Files.
        count: How many to read.
        num_classes: Number of classes.
        shift: 1 where label 0 stands for no class and classes count from 1, else 0.

    Raises:
        DataError: Names the file and the label.
    """
    for index in np.unique(np.linspace(0, len(masks) - 1, min(count, len(masks))).astype(int)):
        labels = np.unique(_read(masks[index]))
        wrong = labels[(labels >= num_classes + shift) & (labels != 255)]
        if wrong.size:
            raise DataError(unknown_label(masks[index], int(wrong.max()), num_classes, shift))


def readable(path: str) -> str | None:
    """Decode a file to its end; returns what is wrong with it."""
    try:
        _read(path)
    except DataError as error:
        return str(error)
    return None


def _read(path: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _compare_sizes(pair: tuple[str, str]) -> str | None:
    try:
        with Image.open(pair[0]) as image:
            size = image.size
            # Loading turns the picture as its camera says.
            if image.info.get("exif") and image.getexif().get(_ORIENTATION, 1) >= 5:
                size = (size[1], size[0])
        with Image.open(pair[1]) as mask:
            mask_size, bands = mask.size, mask.getbands()
    except (OSError, ValueError, SyntaxError) as error:
        return f"{pair[0]} with mask {pair[1]}: {error}"
    if len(bands) != 1:
        return f"{pair[1]}: the mask has {len(bands)} channels ({''.join(bands)}); write one of class numbers"
    if size != mask_size:
        return "{1}: the mask is {4}x{5} px, its image {0} {2}x{3}".format(*pair, *size, *mask_size)
    return None


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        count = len(problems)
        more = [f"and {count - _TOLD} more"] if count > _TOLD else []
        lines = chain([f"{count} file{'s do' if count > 1 else ' does'} not fit:"], problems[:_TOLD], more)
        raise DataError("\n  ".join(lines))
