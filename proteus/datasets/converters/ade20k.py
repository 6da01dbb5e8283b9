"""ADE20K's scene parsing benchmark, from its archive to the folders that mmseg reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from proteus.datasets.converters.archive import Done, Wanted, differences, files_of, opened, unpack
from proteus.structures import DataError
from proteus.utils import exclusive

SIZES = {"training": 20210, "validation": 2000}
"""Official numbers of images."""
_PLACE = re.compile(
    r"(?P<prefix>(?:.*/)?)(?P<kind>images|annotations)/(?P<split>training|validation)/(?P<stem>[^/]+)\.(?P<ending>jpg|png)"
)
_ENDINGS = {"images": "jpg", "annotations": "png"}
_NOTES = ("objectInfo150.txt", "sceneCategories.txt")


class Converted(NamedTuple):
    """What became of an archive.

    Attributes:
        done: Files written, and files that were there.
        deviation: In what the archive differs from the official one; empty where it does not.
        problems: What a check found wrong; empty unless one was asked for.
    """

    done: Done
    deviation: str
    problems: list[str]


def convert(archive: Path, target: Path, check: bool = False) -> Converted:
    """Unpack ``ADEChallengeData2016.zip``, so that ``target`` is mmseg's ``data_root``.

    ``target`` then has ``images/{training,validation}/*.jpg`` and ``annotations/{training,validation}/*.png``,
    whatever folder they stand in within the archive. Interrupted and called again, this unpacks what is missing.

    Args:
        archive: The zip file.
        target: The folder.
        check: Compare ``target`` with the archive, byte for byte by checksums, and write nothing.

    Raises:
        FileNotFoundError: There is no such archive.
        DataError: It is another archive, or damaged, or unsafe, or an image has no annotation.
        LockedError: Another process unpacks to ``target``.
    """
    with opened(archive.expanduser()) as content:
        wanted, deviation = _plan(content, target.expanduser())
        if check:
            return Converted(Done(0, 0), deviation, differences(content, wanted, "ADE20K: check"))
        with exclusive(target.expanduser(), "unpacking ADE20K"):
            return Converted(unpack(content, wanted, "ADE20K"), deviation, [])


def _plan(archive: ZipFile, target: Path) -> tuple[list[Wanted], str]:
    members = files_of(archive)
    wanted: dict[tuple[str, str], dict[str, Wanted]] = {(kind, split): {} for kind in _ENDINGS for split in SIZES}
    prefixes = set()
    for member in members:
        place = _PLACE.fullmatch(member.filename)
        if place is None or place["ending"] != _ENDINGS[place["kind"]]:
            continue
        prefixes.add(place["prefix"])
        name = f"{place['stem']}.{place['ending']}"
        wanted[place["kind"], place["split"]][place["stem"]] = Wanted(
            member, target / place["kind"] / place["split"] / name
        )
    if len(prefixes) != 1:
        what = f"images in several places ({', '.join(sorted(prefixes))})" if prefixes else "no images/training/*.jpg"
        raise DataError(
            f"{archive.filename} has {what}; what is needed is ADEChallengeData2016.zip, not the full ADE20K data set"
        )
    _check_pairs(archive, wanted)
    (prefix,) = prefixes
    notes = [Wanted(member, target / name) for member in members for name in _NOTES if member.filename == prefix + name]
    files = [one for group in wanted.values() for one in group.values()]
    told = [
        f"{len(wanted['images', split]):,} images for {split}, officially {size:,}"
        for split, size in SIZES.items()
        if len(wanted["images", split]) != size
    ]
    return [*files, *notes], "; ".join(told)


def _check_pairs(archive: ZipFile, wanted: dict[tuple[str, str], dict[str, Wanted]]) -> None:
    for split in SIZES:
        images, annotations = wanted["images", split], wanted["annotations", split]
        alone = sorted(images.keys() ^ annotations.keys())
        if alone:
            one = (images.get(alone[0]) or annotations[alone[0]]).member.filename
            lacks = "annotation" if alone[0] in images else "image"
            raise DataError(
                f"{archive.filename}: {one} has no {lacks}"
                + (f", and {len(alone) - 1:,} more are alone" if alone[1:] else "")
                + "; get the archive again"
            )
