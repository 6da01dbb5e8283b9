"""Unpack zip archives of NYU Depth V2 as prepared by BTS to the Monocular-Depth-Estimation-Toolbox's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

from proteus.datasets.converters.archive import (
    FileCounts,
    UnpackedFile,
    find_differences,
    list_members,
    open_archive,
    read_text,
    unpack,
)
from proteus.datasets.converters.nyu_split import FOCAL, Converted, Frame, Split, list_problems, write_list
from proteus.datasets.depth.pairs import Line, parse_split
from proteus.structures import DataError
from proteus.utils import exclusive
from proteus.utils.files import decode_text

_FILE = re.compile(r"(?:.*/)?(?P<scene>[^/]+)/(?P<kind>rgb|sync_depth)_(?P<number>[^/]+)\.(?P<ending>jpg|png)")


class _List(NamedTuple):
    name: str
    text: str


def convert_archive(
    archive: Path, split: Split, target: Path, listed: Path | None = None, check: bool = False
) -> Converted:
    """Unpack the pairs of a split: ``SCENE/rgb_NUMBER.jpg`` and ``SCENE/sync_depth_NUMBER.png`` from any folder.

    The pairs of the split are those of ``listed``, or of ``nyu_<split>.txt`` or BTS's
    ``nyudepthv2_<split>_files_with_gt.txt`` in the archive. Without a list they are all pairs below a folder with the
    split's name (``official_splits/test``), or else all pairs (``sync.zip``). Call it again after an interruption to
    unpack the missing files; the list is written last.

    Args:
        archive: The zip file.
        split: Split to unpack.
        target: Folder of the data set.
        listed: List of pairs.
        check: Compare ``target`` with the archive by checksums and write nothing.

    Raises:
        FileNotFoundError: The archive or the list does not exist.
        DataError: The archive has no pairs, is damaged or unsafe; an image has no depth map; or a line of the list is
            malformed or names a file that is not in the archive.
    """
    target = target.expanduser()
    with open_archive(archive.expanduser()) as content:
        files = list_members(content)
        found = _find_list(content, files, split, listed)
        members = _members(content, files, split, found is not None)
        frames = _pair_frames(content, members) if found is None else _listed_frames(content, members, found)
        unpacked = [
            UnpackedFile(members[name], target / name) for frame in frames for name in (frame.image, frame.depth)
        ]
        title = f"NYU Depth V2 ({split})"
        if check:
            problems = find_differences(content, unpacked, f"{title}: check")
            return Converted(FileCounts(0, 0), len(frames), problems + list_problems(target, split, frames))
        with exclusive(target, f"converting {title}"):
            counts = unpack(content, unpacked, title)
            write_list(target, split, frames)
    return Converted(counts, len(frames), [])


def _members(archive: ZipFile, files: list[ZipInfo], split: Split, listed: bool) -> dict[str, ZipInfo]:
    """Index images and depth maps by ``SCENE/NAME``."""
    places = [(member, place) for member in files if (place := _FILE.fullmatch(member.filename))]
    own = [(member, place) for member, place in places if split in member.filename.split("/")[:-2]]
    members: dict[str, ZipInfo] = {}
    for member, place in own if own and not listed else places:
        name = f"{place['scene']}/{place['kind']}_{place['number']}.{place['ending']}"
        if name.split() != [name]:
            raise DataError(f"{archive.filename}: {name!r} has a space in its name, which a list of pairs cannot hold")
        if name in members:
            raise DataError(f"{archive.filename} has {name} twice: {members[name].filename} and {member.filename}")
        members[name] = member
    if not members:
        raise DataError(
            f"{archive.filename} has no SCENE/rgb_NUMBER.jpg; give an archive as prepared by BTS, such as sync.zip, or "
            "for the labelled frames nyu_depth_v2_labeled.mat"
        )
    return members


def _find_list(archive: ZipFile, files: list[ZipInfo], split: Split, listed: Path | None) -> _List | None:
    if listed is not None:
        return _List(str(listed), decode_text(listed.expanduser().read_bytes(), str(listed)))
    names = f"nyu_{split}.txt", f"nyudepthv2_{split}_files_with_gt.txt"
    for member in files:
        if member.filename.rpartition("/")[2] in names:
            return _List(f"{archive.filename}: {member.filename}", read_text(archive, member))
    return None


def _listed_frames(archive: ZipFile, members: Mapping[str, ZipInfo], found: _List) -> list[Frame]:
    lines, _ = parse_split(found.text, found.name)
    if not lines:
        raise DataError(f"{found.name} lists no pairs")
    return [
        Frame(
            image=_member_name(archive, members, line, line.image),
            depth=_member_name(archive, members, line, line.depth),
            focal=line.focal or FOCAL,
        )
        for line in lines
    ]


def _member_name(archive: ZipFile, members: Mapping[str, ZipInfo], line: Line, listed: str) -> str:
    name = "/".join(listed.split("/")[-2:])
    if name not in members:
        raise DataError(f"{line.where}: {archive.filename} has no {name}")
    return name


def _pair_frames(archive: ZipFile, members: Mapping[str, ZipInfo]) -> list[Frame]:
    frames = []
    for name in members:
        scene, _, file = name.rpartition("/")
        if not file.startswith("rgb_"):
            continue
        depth = f"{scene}/sync_depth_{file[len('rgb_') : file.rindex('.')]}.png"
        if depth not in members:
            raise DataError(f"{archive.filename}: {members[name].filename} has no depth map {depth}")
        frames.append(Frame(name, depth))
    return frames
