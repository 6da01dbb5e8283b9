"""Convert the labelled frames of NYU Depth V2 from the official MATLAB files to the toolbox's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from proteus.datasets.converters.archive import FileCounts, progress
from proteus.datasets.converters.nyu_split import Converted, Frame, Split, list_problems, write_list
from proteus.datasets.fine_grained.listing import read_mat
from proteus.structures import DataError
from proteus.utils import exclusive, write_bytes

Depths = Literal["raw", "filled"]
MILLIMETRES = 1000.0
_VARIABLES: dict[str, str] = {"raw": "rawDepths", "filled": "depths"}
_INDICES = {"train": "trainNdxs", "test": "testNdxs"}
# Rows and columns of a 480 x 640 frame inside its white border; BTS blackens the border before it saves the image.
_INSIDE_BORDER = slice(7, 474), slice(7, 632)
_JPEG_QUALITY = 95


def convert_labelled(
    labelled: Path,
    splits: Path,
    split: Split,
    target: Path,
    depths: Depths = "raw",
    black_border: bool = True,
    check: bool = False,
) -> Converted:
    """Write the frames of a split (officially 795 for training and 654 for testing) under BTS's file names.

    Writes ``SCENETYPE/rgb_NUMBER.jpg`` (quality 95) and ``SCENETYPE/sync_depth_NUMBER.png`` (millimetres). NUMBER
    counts all labelled frames from 0. Call it again after an interruption to write files that are missing or
    different; the list is written last.

    Args:
        labelled: ``nyu_depth_v2_labeled.mat``.
        splits: ``splits.mat``.
        split: Split to convert.
        target: Folder of the data set.
        depths: ``raw``, with 0 where nothing was measured, on which BTS is tested; or ``filled`` in by the data set's
            authors.
        black_border: Blacken the white border of the images, as BTS does.
        check: Compare ``target`` with what would be written (for images only the size) and write nothing.

    Raises:
        FileNotFoundError: A file does not exist.
        ModuleNotFoundError: h5py or scipy is not installed.
        DataError: A file is damaged, or not the expected one.
        LockedError: Another process writes to ``target``.
        ValueError: ``depths`` is unknown.
    """
    if depths not in get_args(Depths):
        raise ValueError(f"depths={depths!r}: write 'raw' or 'filled'")
    target = target.expanduser()
    written, frames, problems = 0, [], []
    numbers = _numbers(splits.expanduser(), split)
    lock = nullcontext() if check else exclusive(target, f"converting NYU Depth V2 ({split})")
    with lock, _open_mat(labelled.expanduser(), (_VARIABLES[depths], "images", "sceneTypes")) as content:
        _check_count(labelled, content, numbers)
        with progress(len(numbers), f"NYU Depth V2 ({split}{', check' if check else ''})", "img") as bar:
            for number in numbers:
                read = partial(_read, content, labelled, number)
                frame = _frame(_scene(content, labelled, number), number)
                frames.append(frame)
                if check:
                    problems += _find_differences(target, frame, read(_VARIABLES[depths]), read("images"))
                else:
                    written += _write_if_changed(target / frame.depth, _encoded_depth(read(_VARIABLES[depths])))
                    written += _write_if_changed(target / frame.image, _encoded_image(read("images"), black_border))
                bar.update()
        if check:
            return Converted(FileCounts(0, 0), len(frames), problems + list_problems(target, split, frames))
        write_list(target, split, frames)
    return Converted(FileCounts(written, 2 * len(frames) - written), len(frames), [])


def _numbers(splits: Path, split: Split) -> list[int]:
    """Read the numbers of a split's frames, counted from 0."""
    if not splits.is_file():
        raise FileNotFoundError(f"{splits} does not exist; download it from the page of nyu_depth_v2_labeled.mat")
    try:
        (numbers,) = read_mat(splits, [_INDICES[split]])
        return sorted(int(number) - 1 for number in numbers)
    except ValueError as error:
        raise DataError(f"{error}: give splits.mat") from error


@contextmanager
def _open_mat(path: Path, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs h5py: pip install h5py") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        content = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not a MATLAB 7.3 file, or is truncated ({error}): download it again") from error
    with content:
        missing = [name for name in names if name not in content]
        if missing:
            raise DataError(f"{path} lacks {missing[0]}; give nyu_depth_v2_labeled.mat")
        yield content


def _check_count(path: Path, content: Mapping[str, Any], numbers: Sequence[int]) -> None:
    count = len(content["images"])
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or not numbers:
        what = f"frame {wrong[0] + 1}" if wrong else "no frames"
        raise DataError(f"splits.mat names {what}, and {path} has frames 1 to {count}: they do not belong together")


def _read(content: Mapping[str, Any], path: Path, number: int, name: str) -> np.ndarray:
    """Read one frame as rows and columns; HDF5 reverses the axes of MATLAB's arrays."""
    try:
        return np.asarray(content[name][number]).T
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path}: {name} of frame {number + 1} is damaged ({error}): download the file again"
        ) from error


def _scene(content: Mapping[str, Any], path: Path, number: int) -> str:
    try:
        text = content[content["sceneTypes"][0][number]]
        name = "".join(chr(code) for code in np.asarray(text).ravel())
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: sceneTypes of frame {number + 1} is damaged ({error}): download the file again"
        ) from error
    if not name.replace("_", "").isalnum():
        raise DataError(f"{path}: frame {number + 1} has the scene type {name!r}, which cannot be a folder's name")
    return name


def _frame(scene: str, number: int) -> Frame:
    return Frame(f"{scene}/rgb_{number:05}.jpg", f"{scene}/sync_depth_{number:05}.png")


def _stored(metres: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(metres) * MILLIMETRES, 0, 65535)).astype(np.uint16)


def _encoded_depth(metres: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(_stored(metres)).save(content, "PNG")
    return content.getvalue()


def _encoded_image(pixels: np.ndarray, black_border: bool) -> bytes:
    if black_border:
        inside = np.zeros_like(pixels)
        inside[_INSIDE_BORDER] = pixels[_INSIDE_BORDER]
        pixels = inside
    content = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "JPEG", quality=_JPEG_QUALITY)
    return content.getvalue()


def _write_if_changed(path: Path, content: bytes) -> bool:
    """Write a file unless it has this content already; returns whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_bytes(path, content, durable=False)
    return True


def _can_be_read(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _find_differences(target: Path, frame: Frame, metres: np.ndarray, pixels: np.ndarray) -> list[str]:
    problems = []
    for name in frame[:2]:
        if not (target / name).is_file():
            problems.append(f"{target / name} is missing")
        elif not _can_be_read(target / name):
            problems.append(f"{target / name} cannot be read")
    if problems:
        return problems
    with Image.open(target / frame.image) as image:
        if image.size != (pixels.shape[1], pixels.shape[0]):
            problems.append(f"{target / frame.image} does not have the frame's size")
    with Image.open(target / frame.depth) as depth:
        if not np.array_equal(np.asarray(depth), _stored(metres)):
            problems.append(f"{target / frame.depth} differs from the depths of the frame")
    return problems
