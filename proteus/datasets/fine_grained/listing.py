"""Reading what official archives list: text files, MATLAB files and folders of classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.proxy.folder import EXTENSIONS
from proteus.utils.files import class_names, describe_junk, is_junk, read_lines

Label = int | np.ndarray


class Listed(NamedTuple):
    """An image that a set lists.

    Attributes:
        path: Its file; what to call it where it stands in an archive.
        label: Its class, from 0; ``(C,)`` int8 of zeros and ones where an image may have several.
        where: What lists it, for messages, for instance ``images.txt, line 3``.
        place: Where in an archive it stands; None for a file.
    """

    path: str
    label: Label
    where: str
    place: Mapping[str, int] | None = None


class Row(NamedTuple):
    """A line of a text file: what to call it in a message, and its columns."""

    where: str
    fields: list[str]


def read_rows(path: Path, columns: int) -> Iterator[Row]:
    """Read the columns of a text file, which white space separates; the last one may have spaces within.

    Args:
        path: The file. Empty lines are passed over.
        columns: How many there are.

    Raises:
        DataError: The file is not text.
        ValueError: A line has fewer.
    """
    for number, line in enumerate(read_lines(path, strict=True), 1):
        fields = line.strip().split(None, columns - 1)
        if not fields:
            continue
        if len(fields) < columns:
            raise ValueError(f"{path}, line {number}: {line!r} has {len(fields)} columns of {columns}")
        yield Row(f"{path}, line {number}", fields)


def read_mat(path: Path, names: Sequence[str]) -> list[Any]:
    """Read variables of a MATLAB file; it is data alone, no code in it is run.

    Args:
        path: The file, of MATLAB 5 to 7.2.
        names: The variables.

    Returns:
        An array for each, with at least one dimension and none of length 1 beside it.

    Raises:
        ModuleNotFoundError: scipy is not installed.
        ValueError: It is no such file, or lacks a variable.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"reading {path} needs scipy: pip install -e '.[eval]'") from error
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy's reader raises whatever a damaged file makes it stumble over
        raise ValueError(f"{path} is not a MATLAB file that can be read ({type(error).__name__}: {error})") from error
    missing = [name for name in names if name not in content]
    if missing:
        found = ", ".join(name for name in content if not name.startswith("__"))
        raise ValueError(f"{path} lacks the variable {missing[0]}; it has {found or 'none'}")
    return [np.atleast_1d(content[name]) for name in names]


def class_folders(root: Path) -> dict[str, list[str]]:
    """List the images in the folders of a folder, a class each; hidden folders are passed over.

    Returns:
        Of each class the names of its images; all sorted as torchvision's ``ImageFolder`` sorts them.

    Raises:
        ValueError: A class has no image.
    """
    classes = {}
    junk = 0
    for name in class_names(root):
        images = sorted(file for file in os.listdir(root / name) if file.lower().endswith(EXTENSIONS))
        wanted = [file for file in images if not is_junk(file)]
        junk += len(images) - len(wanted)
        images = wanted
        if not images:
            raise ValueError(f"{root / name}: the class's folder has no image; complete the set, or remove the folder")
        classes[name] = images
    if junk:
        print_log(f"{root}: {describe_junk(junk)}", "current")
    return classes


def missing_images(listed: Sequence[Listed]) -> list[Listed]:
    """Of the images that are files, those that are not there; each folder is looked into once."""
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
