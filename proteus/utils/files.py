"""Lists of files: below a folder, and in text files with one name per line."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from proteus.compat import fix_log_encoding, fix_manager_lock
from proteus.structures import DataError
from proteus.utils.images import UNREAD_EXTENSIONS

fix_log_encoding()  # names of files are logged
fix_manager_lock()  # also by threads that read ahead

_JUNK = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx", ".appledouble", "@eadir"})


@dataclass
class Walk:
    """Result of :func:`walk`.

    Attributes:
        files: Paths below the root, sorted, with ``/`` between folders.
        folders: Time of last change of each folder in ns, taken before reading it; the root is an empty string.
        unreadable: Folders that could not be read.
        repeated: Links to folders that are listed under another name, and that name.
        junk: Number of skipped files with a wanted extension: those that macOS, Windows and NAS systems add, pipes and
            devices.
        unread: Number of skipped image files by extension, of kinds that are not read.
    """

    files: list[str] = field(default_factory=list)
    folders: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    repeated: dict[str, str] = field(default_factory=dict)
    junk: int = 0
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def skipped(self) -> list[str]:
        """Lines for the log about skipped files."""
        lines = [describe_junk(self.junk)] if self.junk else []
        return [*lines, describe_unread(self.unread)] if self.unread else lines

    @property
    def hint(self) -> str:
        """What to add to the message that there are no images."""
        return f"; {describe_unread(self.unread)}" if self.unread else ""


def walk(root: str | Path, extensions: tuple[str, ...], skip: Iterable[Path] = ()) -> Walk:
    """Find all files with some extensions below a folder.

    Links to folders are followed, and each real folder is read once: under its real name if it is below the root, else
    under the first link to it by name. Circular links end.

    Args:
        root: The folder.
        extensions: Extensions in lower case.
        skip: Folders to skip, with everything in them.
    """
    found = Walk()
    seen: dict[tuple[int, int] | str, str] = {}
    skipped = {_identity(os.fspath(path)) for path in skip if path.is_dir()}
    real, links = deque([""]), list[str]()
    while real or links:
        if not real:
            links.sort(reverse=True)
        folder = real.popleft() if real else links.pop()
        path = os.path.join(root, folder)
        try:
            identity = _identity(path)
            if identity in skipped:
                continue
            if identity in seen:
                found.repeated[folder.rstrip("/")] = seen[identity].rstrip("/") or "."
                continue
            seen[identity] = folder
            # Before the folder is read, so that later changes are noticed.
            found.folders[folder] = os.stat(path).st_mtime_ns
            with os.scandir(path) as entries:
                for entry in entries:
                    _sort_in(entry, folder, extensions, found, real, links)
        except OSError:
            found.unreadable.append(path)
    found.files.sort()
    return found


def cache_folder() -> Path:
    """Return the folder of files that can be made again: ``PROTEUS_CACHE``, by default ``~/.cache/proteus``."""
    return Path(os.environ.get("PROTEUS_CACHE", "~/.cache/proteus")).expanduser()


def class_names(root: str | Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones and those that operating systems add."""
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and not is_junk(entry.name) and _is_folder(entry)
        )


def is_junk(name: str) -> bool:
    """Whether an operating system added a file or folder, such as ``._a.jpg`` or ``__MACOSX``."""
    return name.startswith("._") or name.lower() in _JUNK


def describe_junk(count: int) -> str:
    """Describe how many files were skipped."""
    return f"{count:,} {'files' if count > 1 else 'file'} passed over that an operating system added (such as ._a.jpg)"


def unread_extension(name: str) -> str:
    """Return the extension of an image file of a kind that is not read; empty for other files."""
    extension = os.path.splitext(name)[1].lower()
    return extension if extension in UNREAD_EXTENSIONS and not is_junk(name) else ""


def describe_unread(counts: Mapping[str, int]) -> str:
    """Describe how many image files were skipped because their kinds are not read.

    Args:
        counts: Number of files by extension.
    """
    kinds = " and ".join(f"{count:,} {extension}" for extension, count in sorted(counts.items()))
    files, them = ("files", "them") if sum(counts.values()) > 1 else ("file", "it")
    return f"{kinds} {files} not read: convert {them} to JPEG or PNG"


def read_lines(path: str | Path, strict: bool = False) -> list[str]:
    """Read a text file with one entry per line.

    Lines end with a line feed, with or without a carriage return; Unicode's other separators belong to the entry.

    Args:
        path: The file.
        strict: As for :func:`decode_text`.

    Raises:
        DataError: The file is not UTF-8 text.
    """
    lines = decode_text(Path(path).read_bytes(), str(path), strict).split("\n")
    return [line.removesuffix("\r") for line in lines[: len(lines) - (lines[-1] == "")]]


def check_inside(name: str, where: str) -> str:
    """Return a name from the list of a data set, which may come from anybody, if it stays in the set's folder.

    Args:
        name: The name, with slashes of either kind between its parts.
        where: Where it is listed, for messages.

    Raises:
        DataError: The name is absolute or has ``..``.
    """
    path = name.replace("\\", "/")
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or (parts and parts[0].endswith(":")):
        raise DataError(f"{where}: {name!r} leads out of the folder of the set; write a path in it, without '..'")
    return name


def decode_text(content: bytes, name: str, strict: bool = False) -> str:
    """Decode the content of a text file, without a byte order mark.

    Args:
        content: The content.
        name: What to call the file in messages.
        strict: Refuse bytes that are not UTF-8. By default they are kept (``surrogateescape``), as Python keeps them in
            names of files.

    Raises:
        DataError: The content is not text, or is UTF-16.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name} is not a text file in UTF-8 (it begins as UTF-16 does): save it as UTF-8")
    if b"\0" in content:
        raise DataError(f"{name} is not a text file: it holds zero bytes")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "strict" if strict else "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not a text file in UTF-8 ({error})") from error


def _sort_in(
    entry: os.DirEntry[str], folder: str, extensions: tuple[str, ...], found: Walk, real: deque[str], links: list[str]
) -> None:
    if _is_folder(entry):
        if is_junk(entry.name):
            return
        (links.append if entry.is_symlink() else real.append)(f"{folder}{entry.name}/")
    elif entry.name.lower().endswith(extensions):
        # List broken links, so that the reader reports them by name.
        if is_junk(entry.name) or not (entry.is_symlink() or entry.is_file()):
            found.junk += 1
        else:
            found.files.append(folder + entry.name)
    elif extension := unread_extension(entry.name):
        found.unread[extension] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int] | str:
    stat = os.stat(path)
    # Some file systems have no inode numbers.
    return (stat.st_dev, stat.st_ino) if stat.st_ino else os.path.realpath(path)


def no_folder(path: str | Path) -> str:
    """Word that a path is not a folder: it is a file, or is missing."""
    return f"{path} is a file, not a folder" if Path(path).exists() else f"no folder {path}"
