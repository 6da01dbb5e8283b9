"""NYU Depth V2 as BTS prepares it, from its zip archives to the toolbox's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

from proteus.datasets.converters.archive import Done, Wanted, differences, files_of, opened, read_text, unpack
from proteus.datasets.converters.nyu_split import FOCAL, Converted, Frame, Split, list_problems, write_list
from proteus.datasets.depth.listing import Line, parse_split
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
    """Unpack the pairs of a split: ``SCENE/rgb_NUMBER.jpg`` and ``SCENE/sync_depth_NUMBER.png``, in whatever folder.

    Which pairs belong to the split, a list says: the one given, or ``nyu_<split>.txt`` or BTS's
    ``nyudepthv2_<split>_files_with_gt.txt`` in the archive. Without a list they are all pairs below a folder called
    like the split (``official_splits/test``), and where there is none, all pairs (``sync.zip``). Interrupted and
    called again, this unpacks what is missing; the list is written last.

    Args:
        archive: The zip file.
        split: Which split to take from it.
        target: The data set's folder.
        listed: A list of pairs.
        check: Compare ``target`` with the archive, byte for byte by checksums, and write nothing.

    Raises:
        FileNotFoundError: There is no such archive or list.
        DataError: The archive has no pairs, is damaged or unsafe; an image has no depth map; or a line of the list is
            malformed or names what the archive has not.
    """
    target = target.expanduser()
    with opened(archive.expanduser()) as content:
        files = files_of(content)
        found = _find_list(content, files, split, listed)
        members = _members(content, files, split, found is not None)
        frames = _alone(content, members) if found is None else _listed(content, members, found)
        wanted = [Wanted(members[name], target / name) for frame in frames for name in (frame.image, frame.depth)]
        title = f"NYU Depth V2 ({split})"
        if check:
            problems = differences(content, wanted, f"{title}: check")
            return Converted(Done(0, 0), len(frames), problems + list_problems(target, split, frames))
        with exclusive(target, f"converting {title}"):
            done = unpack(content, wanted, title)
            write_list(target, split, frames)
    return Converted(done, len(frames), [])


def _members(archive: ZipFile, files: list[ZipInfo], split: Split, listed: bool) -> dict[str, ZipInfo]:
    """The images and depth maps, by their folder and name."""
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
            f"{archive.filename} has no SCENE/rgb_NUMBER.jpg; what is needed is an archive as BTS prepares it, such as "
            "sync.zip, or for the labelled frames nyu_depth_v2_labeled.mat"
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


def _listed(archive: ZipFile, members: Mapping[str, ZipInfo], found: _List) -> list[Frame]:
    lines, _ = parse_split(found.text, found.name)
    if not lines:
        raise DataError(f"{found.name} lists no pair")
    return [
        Frame(_held(archive, members, line, line.image), _held(archive, members, line, line.depth), line.focal or FOCAL)
        for line in lines
    ]


def _held(archive: ZipFile, members: Mapping[str, ZipInfo], line: Line, listed: str) -> str:
    name = "/".join(listed.split("/")[-2:])
    if name not in members:
        raise DataError(f"{line.where}: {archive.filename} has no {name}")
    return name


def _alone(archive: ZipFile, members: Mapping[str, ZipInfo]) -> list[Frame]:
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
