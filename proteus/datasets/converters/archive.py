"""Zip archives from outside, unpacked so that nothing lands elsewhere and an interrupted run can go on."""

from __future__ import annotations

import lzma
import shutil
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile, ZipInfo

from tqdm import tqdm

from proteus.structures import DataError
from proteus.utils import atomic_path
from proteus.utils.files import decode_text, is_junk

# What zipfile raises for content that is not what the archive says, or that it cannot decode: NotImplementedError for a
# compression that it does not know, RuntimeError for an encrypted member, OSError for bzip2.
_DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_PIECE = 1 << 20
# Images hardly shrink in an archive, and lists of files ten times; zeros do so a thousand times.
_BOMB, _SMALL = 100, 1 << 24


class Wanted(NamedTuple):
    """A file of an archive, and where it goes."""

    member: ZipInfo
    target: Path


class Done(NamedTuple):
    """What unpacking did: files written, and files that were there."""

    written: int
    kept: int

    def __add__(self, other: object) -> Done:
        if not isinstance(other, Done):
            return NotImplemented
        return Done(self.written + other.written, self.kept + other.kept)


@contextmanager
def opened(path: Path) -> Iterator[ZipFile]:
    """Open a zip archive.

    Raises:
        FileNotFoundError: It is not there.
        DataError: It is no zip archive, or its end is missing.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file; name the zip archive")
    with path.open("rb") as file:
        try:
            archive = ZipFile(file)
        except _DAMAGE as error:
            raise DataError(f"{path} is no zip archive, or its end is missing ({error}): get it again") from error
        with archive:
            yield archive


def files_of(archive: ZipFile) -> list[ZipInfo]:
    """The files of an archive, without what macOS adds.

    Raises:
        DataError: One has a name that leads out of the folder it is unpacked to, or is given twice, or is a link or
            device, or unpacks to a hundred times its size.
    """
    files: dict[str, ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
            fault = "would land outside"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link" if stat.S_ISLNK(member.external_attr >> 16) else "is a pipe, socket or device"
        elif member.file_size > max(_SMALL, _BOMB * member.compress_size):
            fault = f"unpacks to {member.file_size / 1e6:,.0f} MB, more than {_BOMB} times its size"
        elif member.filename in files:
            fault = "is there twice"
        elif member.is_dir() or not parts or any(map(is_junk, parts)) or parts[-1].startswith("."):
            continue
        else:
            files[member.filename] = member
            continue
        raise DataError(f"{archive.filename}: {member.filename!r} {fault}; nothing was unpacked")
    return list(files.values())


def unpack(archive: ZipFile, wanted: Sequence[Wanted], title: str) -> Done:
    """Unpack what is not there in its full size; a file is never seen half-written under its name.

    Args:
        archive: Where from.
        wanted: What, and where to.
        title: What to call it beside the progress bar.

    Raises:
        DataError: A file in the archive is damaged, or the disk has not enough room.
        FullDiskError: The disk is full nevertheless.
    """
    missing = [one for one in wanted if not _is_there(one)]
    _check_room(missing)
    with _bar(sum(one.member.file_size for one in missing), title) as bar:
        for one in missing:
            with atomic_path(one.target, durable=False) as temporary, temporary.open("wb") as sink:
                for piece in _pieces(archive, one.member):
                    sink.write(piece)
                    bar.update(len(piece))
    return Done(len(missing), len(wanted) - len(missing))


def differences(archive: ZipFile, wanted: Sequence[Wanted], title: str) -> list[str]:
    """Compare files with the archive by their checksums; writes nothing.

    Returns:
        A line about each that is missing or differs.
    """
    told = []
    with _bar(sum(one.member.file_size for one in wanted), title) as bar:
        for one in wanted:
            if not one.target.is_file():
                told.append(f"{one.target} is missing")
            elif not _is_there(one) or _checksum(one.target) != one.member.CRC:
                told.append(f"{one.target} is not what {archive.filename} has as {one.member.filename}")
            bar.update(one.member.file_size)
    return told


def read_text(archive: ZipFile, member: ZipInfo) -> str:
    """Read a text file of an archive.

    Raises:
        DataError: It is damaged, or no text.
    """
    return decode_text(b"".join(_pieces(archive, member)), f"{archive.filename}: {member.filename}")


def progress(total: int, title: str, unit: str) -> tqdm:
    """A progress bar, which writes a line now and then where nobody watches."""
    quiet = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=title, unit=unit, mininterval=quiet, unit_scale=unit == "B")


def _bar(total: int, title: str) -> tqdm:
    return progress(total, title, "B")


def _pieces(archive: ZipFile, member: ZipInfo) -> Iterator[bytes]:
    left, wrong = member.file_size, ""
    try:
        with archive.open(member) as source:
            while piece := source.read(_PIECE):
                left -= len(piece)
                yield piece
        wrong = f"{left:,} bytes are missing" if left else ""
    except _DAMAGE as error:
        wrong = "it is encrypted" if member.flag_bits & 1 else str(error)
    if wrong:
        raise DataError(
            f"{archive.filename}: {member.filename} is damaged ({wrong}); get it again, what was unpacked is kept"
        )


def _is_there(one: Wanted) -> bool:
    return one.target.is_file() and one.target.stat().st_size == one.member.file_size


def _check_room(missing: Sequence[Wanted]) -> None:
    if not missing:
        return
    folder = next(parent for parent in missing[0].target.absolute().parents if parent.exists())
    needed, free = sum(one.member.file_size for one in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are to be unpacked")


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            value = zlib.crc32(piece, value)
    return value
