"""Check by names and file headers that every image has a mask of its size; nothing is decoded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from tqdm import tqdm

from proteus.datasets.segmentation.check_labels import unknown_label
from proteus.datasets.segmentation.masks import check_mask_kind, read_mask
from proteus.structures import CorruptImageError, DataError
from proteus.utils.files import no_folder, walk
from proteus.utils.image_files import opened
from proteus.utils.images import upright_size

IGNORED = 255
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
            fault = no_folder(folder)
        else:
            found = walk(folder, (suffixes[key].lower(),))
            if found.repeated:
                # mmseg follows links, and never ends on circular ones.
                link, other = min(found.repeated.items())
                raise DataError(
                    f"{Path(folder, link)} links to {Path(folder, other)}, which is listed too: remove the link"
                )
            if any(name.endswith(suffixes[key]) for name in found.files):
                continue
            fault = f"no *{suffixes[key]} in {folder}"
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


def check_some_labels(
    masks: Sequence[str], count: int, num_classes: int, shift: int, label_map: Mapping[int, int] | None = None
) -> None:
    """Read ``count`` masks spread over all; refuse unknown labels, and masks from which nothing can be learnt.

    Args:
        masks: Files.
        count: How many to read.
        num_classes: Number of classes.
        shift: 1 where label 0 stands for no class and classes count from 1, else 0.
        label_map: Classes by labels, as mmseg makes it where ``metainfo.classes`` are some of the set's.

    Raises:
        DataError: Names the file and the label, or the first mask where every one of them is ignored or holds 0 and 255
            only.
    """
    chosen = np.unique(np.linspace(0, max(len(masks) - 1, 0), min(count, len(masks))).astype(int))
    found: set[int] = set()
    for index in chosen:
        try:
            labels = np.unique(read_mask(masks[index]))
        except CorruptImageError as error:
            raise DataError(f"cannot read {error}") from error
        wrong = labels[(labels < 0) | (labels > 255)]
        if label_map is None and not wrong.size:
            wrong = labels[(labels >= num_classes + shift) & (labels != IGNORED)]
        if wrong.size:
            raise DataError(unknown_label(masks[index], int(wrong.max()), num_classes, shift))
        found.update(map(int, labels))
    if not len(chosen):
        return
    mapped = {(label_map or {}).get(label, label) for label in found}
    classes = {label for label in mapped if label not in (IGNORED, -1) and not (shift and label == 0)}
    several = f"{len(chosen):,} masks" if len(chosen) > 1 else "mask"
    read = f"the {several} read ({masks[chosen[0]]} is the first)"
    if found == {0, IGNORED} and num_classes > 1:
        raise DataError(
            f"labels of {read}: 0 and 255 only, and 255 means ignore; write class numbers, such as {shift} and "
            f"{shift + 1}"
        )
    if not classes:
        zero = " or 0, which is not a class here (reduce_zero_label)" if shift else ""
        raise DataError(
            f"every pixel of {read} is ignored (255{zero}): write class numbers from {shift} to "
            f"{num_classes - 1 + shift}"
        )
    if len(classes) == 1 < num_classes:
        print_log(f"labels of {read}: one class only, {min(classes)}", "current", logging.WARNING)


def readable(path: str) -> str | None:
    """Decode a file to its end; returns what is wrong with it."""
    try:
        with opened(path) as image:
            image.load()
    except CorruptImageError as error:
        return f"cannot read {error}"
    return None


def _compare_sizes(pair: tuple[str, str]) -> str | None:
    try:
        size = upright_size(pair[0])
        with opened(pair[1]) as mask:
            check_mask_kind(pair[1], mask)
            mask_size = mask.size
    except CorruptImageError as error:
        return f"cannot read {error}"
    except DataError as error:
        return str(error)
    if size != mask_size:
        with opened(pair[0]) as image:
            turned = " (turned by its EXIF orientation)" if image.format != "TIFF" and image.size != size else ""
        return "{1}: the mask is {4}x{5} px, its image {0} {2}x{3}{6}".format(*pair, *size, *mask_size, turned)
    return None


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        count = len(problems)
        more = [f"and {count - _TOLD} more"] if count > _TOLD else []
        lines = chain([f"{count} file{'s do' if count > 1 else ' does'} not fit:"], problems[:_TOLD], more)
        raise DataError("\n  ".join(lines))
