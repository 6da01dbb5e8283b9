"""Check the pairs of images and masks by names, file headers and a sample of labels."""

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

from proteus.datasets.segmentation.check_labels import check_mask_kind, read_mask, stored_ignored, unknown_label
from proteus.structures import CorruptImageError, DataError
from proteus.utils.files import no_folder, walk
from proteus.utils.image_files import opened
from proteus.utils.images import upright_size

IGNORED = 255
_TOLD = 5


def check_folders(folders: dict[str, str], suffixes: dict[str, str], data_root: str | None) -> None:
    """Check that the folders of images and masks exist and have files.

    Args:
        folders: The folders ``img_path`` and ``seg_map_path``.
        suffixes: Endings of the files, with the same keys.
        data_root: Folder that contains them, if any.

    Raises:
        DataError: A folder is missing or empty; the message shows the expected layout.
    """
    layout = "\n".join(f"    {folder}/*{suffixes[key]}" for key, folder in folders.items())
    for key, folder in folders.items():
        if not Path(folder).is_dir():
            fault = no_folder(folder)
        else:
            found = walk(folder, (suffixes[key].lower(),))
            if found.repeated:
                # mmseg follows links and does not terminate on circular ones.
                link, other = min(found.repeated.items())
                raise DataError(
                    f"{Path(folder, link)} links to {Path(folder, other)}, which is also listed: remove the link"
                )
            if any(name.endswith(suffixes[key]) for name in found.files):
                continue
            fault = f"no *{suffixes[key]} in {folder}"
        raise DataError(
            f"{fault}; expected images and masks with equal names:\n{layout}\n"
            f"  (data_root = {data_root!r}; set another with --cfg-options, or data_prefix for other folders)"
        )


def check_pairs(pairs: Sequence[tuple[str, str]], masks: Sequence[str]) -> None:
    """Check that each image has a mask of the same size, and each mask an image.

    Args:
        pairs: Paths of an image and of its mask.
        masks: Paths of all masks that exist.

    Raises:
        DataError: Files do not fit; the message names the first ones and their number.
    """
    existing = {str(Path(path)) for path in masks}
    wanted = {str(Path(mask)): image for image, mask in pairs}
    unpaired = [f"{image}: its mask {mask} is missing" for mask, image in wanted.items() if mask not in existing]
    unpaired += [f"{mask}: the image of this mask is missing" for mask in sorted(existing - wanted.keys())]
    _refuse(unpaired)
    with ThreadPoolExecutor(8) as pool:  # threads: most time is spent waiting for the disk
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
    masks: Sequence[str],
    count: int,
    num_classes: int,
    shift: int,
    label_map: Mapping[int, int] | None = None,
    ignore_index: int = IGNORED,
) -> None:
    """Read some evenly spaced masks and check that their labels are known and give something to learn.

    Args:
        masks: Paths of the masks.
        count: Number of masks to read.
        num_classes: Number of classes.
        shift: 1 if label 0 means no class and classes count from 1, else 0.
        label_map: New numbers of the classes, as mmseg makes it if ``metainfo.classes`` selects some of the set's.
        ignore_index: Number of ignored pixels, counted as the classes are.

    Raises:
        DataError: A label is unknown, or all pixels are ignored, or the only labels are 0 and the ignored one.
    """
    ignored = stored_ignored(ignore_index, shift)
    chosen = np.unique(np.linspace(0, max(len(masks) - 1, 0), min(count, len(masks))).astype(int))
    found: set[int] = set()
    for index in chosen:
        try:
            labels = np.unique(read_mask(masks[index]))
        except CorruptImageError as error:
            raise DataError(f"cannot read {error}") from error
        wrong = labels[(labels < 0) | (labels > 255)]
        if label_map is None and not wrong.size:
            wrong = labels[(labels >= num_classes + shift) & (labels != ignored)]
        if wrong.size:
            raise DataError(unknown_label(masks[index], int(wrong.max()), num_classes, shift, ignored))
        found.update(map(int, labels))
    if not len(chosen):
        return
    # As mmseg's LoadAnnotations: first the shift, then label_map.
    mapped = {label: label - shift for label in found if label != ignored and label >= shift}
    mapped = {label: (label_map or {}).get(number, number) for label, number in mapped.items()}
    classes = {label: number for label, number in mapped.items() if number not in (ignore_index, IGNORED, -1)}
    several = f"{len(chosen):,} masks that were" if len(chosen) > 1 else "mask that was"
    read = f"the {several} read ({masks[chosen[0]]} is the first)"
    if found == {0, ignored} and num_classes > 1:
        raise DataError(
            f"labels of {read}: only 0 and {ignored}, and {ignored} means ignore; write class numbers, such as {shift} "
            f"and {shift + 1}"
        )
    if not classes:
        zero = " or 0, which is not a class here (reduce_zero_label)" if shift else ""
        raise DataError(
            f"every pixel of {read} is ignored ({ignored}{zero}): write class numbers from {shift} to "
            f"{num_classes - 1 + shift}"
        )
    if len(set(classes.values())) == 1 < num_classes:
        contain = "contain" if len(chosen) > 1 else "contains"
        print_log(f"{read} {contain} only class {min(classes)}", "current", logging.WARNING)


def readable(path: str) -> str | None:
    """Decode a file completely; returns the error if it cannot be read, else None."""
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
        return "{1}: the mask is {4}x{5} px, but its image {0} is {2}x{3}{6}".format(*pair, *size, *mask_size, turned)
    return None


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        count = len(problems)
        more = [f"and {count - _TOLD} more"] if count > _TOLD else []
        lines = chain([f"{count} file{'s do' if count > 1 else ' does'} not fit:"], problems[:_TOLD], more)
        raise DataError("\n  ".join(lines))
