"""Unpack untrusted zip archives safely, check what was unpacked, and resume after an interruption."""

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

# Errors that zipfile raises for damaged or unsupported members: NotImplementedError for an unknown compression method,
# RuntimeError for an encrypted member, OSError for bzip2.
_DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_CHUNK_BYTES = 1 << 20
# Zip bombs: images hardly shrink in an archive, lists of files shrink tenfold, zeros a thousandfold.
_MAX_COMPRESSION, _ALWAYS_ALLOWED_BYTES = 100, 1 << 24
_MAX_PROBLEMS_SHOWN = 10


class UnpackedFile(NamedTuple):
    """A member of an archive and the path it is unpacked to."""

    member: ZipInfo
    target: Path


class FileCounts(NamedTuple):
    """Number of files that were written, and number that were there already."""

    written: int
    kept: int

    def __add__(self, other: object) -> FileCounts:
        if not isinstance(other, FileCounts):
            return NotImplemented
        return FileCounts(self.written + other.written, self.kept + other.kept)


@contextmanager
def open_archive(path: Path) -> Iterator[ZipFile]:
    """Open a zip archive.

    Raises:
        FileNotFoundError: The archive does not exist.
        DataError: The file is not a zip archive, or is truncated.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file; name the zip archive")
    with path.open("rb") as file:
        try:
            archive = ZipFile(file)
        except _DAMAGE as error:
            raise DataError(f"{path} is not a zip archive, or is truncated ({error}): download it again") from error
        with archive:
            yield archive


def list_members(archive: ZipFile) -> list[ZipInfo]:
    """List the files of an archive, without those that macOS adds.

    Raises:
        DataError: A member would be unpacked outside its folder, is listed twice, is a link or device, or unpacks to
            more than a hundred times its size.
    """
    files: dict[str, ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
            fault = "would land outside"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link" if stat.S_ISLNK(member.external_attr >> 16) else "is a pipe, socket or device"
        elif member.file_size > max(_ALWAYS_ALLOWED_BYTES, _MAX_COMPRESSION * member.compress_size):
            fault = f"unpacks to {member.file_size / 1e6:,.0f} MB, more than {_MAX_COMPRESSION} times its size"
        elif member.filename in files:
            fault = "is listed twice"
        elif member.is_dir() or not parts or any(map(is_junk, parts)) or parts[-1].startswith("."):
            continue
        else:
            files[member.filename] = member
            continue
        raise DataError(f"{archive.filename}: {member.filename!r} {fault}; nothing was unpacked")
    return list(files.values())


def unpack(archive: ZipFile, files: Sequence[UnpackedFile], title: str) -> FileCounts:
    """Unpack the files that are missing or have another size. Each is written atomically.

    Args:
        archive: The archive.
        files: What to unpack, and where to.
        title: Label of the progress bar.

    Raises:
        DataError: A member is damaged, or the disk has too little free space.
        FullDiskError: The disk became full.
    """
    missing = [file for file in files if not _has_full_size(file)]
    _check_free_space(missing)
    with _byte_progress(sum(file.member.file_size for file in missing), title) as bar:
        for file in missing:
            with atomic_path(file.target, durable=False) as temporary, temporary.open("wb") as sink:
                for chunk in _read_chunks(archive, file.member):
                    sink.write(chunk)
                    bar.update(len(chunk))
    return FileCounts(len(missing), len(files) - len(missing))


def find_differences(archive: ZipFile, files: Sequence[UnpackedFile], title: str) -> list[str]:
    """Compare unpacked files with the archive by checksum; nothing is written.

    Returns:
        One line for each file that is missing or differs.
    """
    problems = []
    with _byte_progress(sum(file.member.file_size for file in files), title) as bar:
        for file in files:
            if not file.target.is_file():
                problems.append(f"{file.target} is missing")
            elif not _has_full_size(file) or _checksum(file.target) != file.member.CRC:
                problems.append(f"{file.target} differs from {file.member.filename} in {archive.filename}")
            bar.update(file.member.file_size)
    return problems


def read_text(archive: ZipFile, member: ZipInfo) -> str:
    """Read a text file of an archive.

    Raises:
        DataError: The member is damaged, or not text.
    """
    return decode_text(b"".join(_read_chunks(archive, member)), f"{archive.filename}: {member.filename}")


def progress(total: int, title: str, unit: str) -> tqdm:
    """Create a progress bar; without a terminal it prints a line every 30 seconds."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=title, unit=unit, mininterval=interval, unit_scale=unit == "B")


def format_summary(title: str, target: Path, counts: FileCounts, problems: Sequence[str], check: bool) -> str:
    """Format the result of a conversion or of a check for the terminal.

    Args:
        title: Name of the data set.
        target: Folder of the converted set.
        counts: Files written and kept.
        problems: What the check found wrong.
        check: Whether this was a check.

    Returns:
        One line; or the first problems, one per line, and their number.
    """
    if not check:
        return f"{title}: {counts.written:,} files written, {counts.kept:,} were there, in {target}"
    if not problems:
        return f"{title}: {target} is complete"
    hidden = len(problems) - _MAX_PROBLEMS_SHOWN
    more = [f"... and {hidden:,} more"] if hidden > 0 else []
    remedy = (
        f"{title}: {len(problems):,} files of {target} are missing or differ; remove those that differ and convert "
        "again without --check"
    )
    return "\n".join([*problems[:_MAX_PROBLEMS_SHOWN], *more, remedy])


def _byte_progress(total: int, title: str) -> tqdm:
    return progress(total, title, "B")


def _read_chunks(archive: ZipFile, member: ZipInfo) -> Iterator[bytes]:
    left, fault = member.file_size, ""
    try:
        with archive.open(member) as source:
            while chunk := source.read(_CHUNK_BYTES):
                left -= len(chunk)
                yield chunk
        fault = f"{left:,} bytes are missing" if left else ""
    except _DAMAGE as error:
        fault = "it is encrypted" if member.flag_bits & 1 else str(error)
    if fault:
        raise DataError(
            f"{archive.filename}: {member.filename} is damaged ({fault}); download the archive again, files unpacked "
            "so far are kept"
        )


def _has_full_size(file: UnpackedFile) -> bool:
    return file.target.is_file() and file.target.stat().st_size == file.member.file_size


def _check_free_space(missing: Sequence[UnpackedFile]) -> None:
    if not missing:
        return
    folder = next(parent for parent in missing[0].target.absolute().parents if parent.exists())
    needed, free = sum(file.member.file_size for file in missing), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free; unpacking needs {needed / 1e9:.1f} GB")


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value
