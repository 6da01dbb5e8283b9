"""Which image has which depth map: split files, and folders side by side."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mmengine.logging import print_log

from proteus.datasets.fine_grained.listing import Listed, missing_images
from proteus.datasets.proxy.folder import EXTENSIONS
from proteus.structures import DataError
from proteus.utils.files import decode_text, describe_junk, walk

# What stands in place of a depth map where an image has none.
_NO_DEPTH = "None"


class Pair(NamedTuple):
    """An image and its depth map.

    Attributes:
        image: Its file.
        depth: The depth map's file.
        where: What lists them, for messages.
    """

    image: str
    depth: str
    where: str


class Line(NamedTuple):
    """A line of a list of pairs: both names as they stand there, the focal length's text, and what to call the line."""

    image: str
    depth: str
    focal: str
    where: str


def read_split_file(path: Path, root: Path) -> tuple[list[Pair], int]:
    """Read a list as BTS and the Monocular-Depth-Estimation-Toolbox have it, and look for its files.

    Args:
        path: The list; see :func:`parse_split`.
        root: The folder below which its files are, with or without a slash before their names.

    Returns:
        The pairs sorted by image, as the toolbox sorts them, and how many images have ``None`` for a depth map.

    Raises:
        DataError: A line is malformed, the list is no text, or files are missing.
    """
    lines, without = parse_split(decode_text(path.read_bytes(), str(path)), str(path))
    pairs = [
        Pair(str(root / line.image.lstrip("/\\")), str(root / line.depth.lstrip("/\\")), line.where) for line in lines
    ]
    _check_missing(pairs)
    return sorted(pairs), without


def parse_split(text: str, name: str) -> tuple[list[Line], int]:
    """Take a list of pairs apart.

    A line is ``/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579``: image, depth map and
    optionally the focal length in pixels, which nothing here needs. Empty lines are passed over.

    Args:
        text: The list.
        name: What to call it in messages.

    Returns:
        The lines in their order, and how many more have ``None`` for a depth map.

    Raises:
        DataError: A line has not these columns.
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
    """Pair the images below a folder with the PNG of the same name below another, as mmseg does.

    Args:
        images: Folder of the images, however nested.
        depths: Folder of the depth maps.

    Returns:
        The pairs sorted by image.

    Raises:
        DataError: Files are missing.
    """
    pairs = []
    found = walk(images, EXTENSIONS)
    if found.junk:
        print_log(f"{images}: {describe_junk(found.junk)}", "current")
    for name in found.files:
        image = images / name
        pairs.append(Pair(str(image), str((depths / name).with_suffix(".png")), f"for {image}"))
    _check_missing(pairs)
    return sorted(pairs)


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
