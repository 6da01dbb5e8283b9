"""Read the lists of official archives: text files, MATLAB files and class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.proxy.folder import EXTENSIONS
from proteus.utils.files import Walk, class_names, is_junk, read_lines, unread_extension

Label = int | np.ndarray


class Listed(NamedTuple):
    """An image of a set.

    Attributes:
        path: Its file, or a name for messages if it is inside a larger file.
        label: Class index from 0, or a multi-hot vector ``(C,)`` int8.
        where: Where it is listed, for messages, such as ``images.txt, line 3``.
        place: Its position inside a larger file; None for an image file.
    """

    path: str
    label: Label
    where: str
    place: Mapping[str, int] | None = None


class Row(NamedTuple):
    """A line of a text file: its place for messages, and its columns."""

    where: str
    fields: list[str]


def read_rows(path: Path, columns: int) -> Iterator[Row]:
    """Read the whitespace-separated columns of a text file; the last column may contain spaces.

    Args:
        path: The file. Empty lines are skipped.
        columns: Number of columns.

    Raises:
        DataError: The file is not text.
        ValueError: A line has fewer columns.
    """
    for number, line in enumerate(read_lines(path, strict=True), 1):
        fields = line.strip().split(None, columns - 1)
        if not fields:
            continue
        if len(fields) < columns:
            raise ValueError(f"{path}, line {number}: {line!r} has {len(fields)} columns, expected {columns}")
        yield Row(f"{path}, line {number}", fields)


def read_mat(path: Path, names: Sequence[str]) -> list[Any]:
    """Read variables of a MATLAB file. The file is only data; no code in it is executed.

    Args:
        path: A file of MATLAB 5 to 7.2.
        names: The variables.

    Returns:
        One array for each variable, squeezed, with at least one dimension.

    Raises:
        ModuleNotFoundError: scipy is not installed.
        ValueError: The file is not a MATLAB file, or lacks a variable.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs scipy: pip install scipy") from error
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy raises all kinds of errors for damaged files
        raise ValueError(f"{path} is not a readable MATLAB file ({type(error).__name__}: {error})") from error
    missing = [name for name in names if name not in content]
    if missing:
        found = ", ".join(name for name in content if not name.startswith("__"))
        raise ValueError(f"{path} lacks the variable {missing[0]}; it has {found or 'none'}")
    return [np.atleast_1d(content[name]) for name in names]


def class_folders(root: Path) -> dict[str, list[str]]:
    """List the images of each class folder; hidden folders are skipped.

    Returns:
        Names of the images by class, sorted as by torchvision's ``ImageFolder``.

    Raises:
        ValueError: A class has no images.
    """
    classes = {}
    skipped = Walk()
    for name in class_names(root):
        files = os.listdir(root / name)
        images = sorted(file for file in files if file.lower().endswith(EXTENSIONS))
        wanted = [file for file in images if not is_junk(file)]
        skipped.junk += len(images) - len(wanted)
        skipped.unread.update(filter(None, map(unread_extension, files)))
        images = wanted
        if not images:
            raise ValueError(
                f"{root / name}: the class folder has no images; complete the set, or remove the folder{skipped.hint}"
            )
        classes[name] = images
    for line in skipped.skipped:
        print_log(f"{root}: {line}", "current")
    return classes


def images_outside(listed: Sequence[Listed], folder: Path) -> list[Listed]:
    """Return the image files that are not below a folder: lists may come from anybody."""
    root = os.path.join(os.path.abspath(folder), "")
    return [image for image in listed if image.place is None and not os.path.abspath(image.path).startswith(root)]


def missing_images(listed: Sequence[Listed]) -> list[Listed]:
    """Return the image files that do not exist; each folder is listed once."""
    folders: dict[str, set[str]] = {}
    missing = []
    for image in listed:
        if image.place is not None:
            continue
        folder, name = os.path.split(image.path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in folders[folder]:
            missing.append(image)
    return missing
