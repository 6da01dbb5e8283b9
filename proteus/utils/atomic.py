"""Files that appear under their name only once they are complete and on disk."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from proteus.structures import DataError, FullDiskError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Rust and C++ libraries raise other error types with the operating system's message or number in the text.
# NumPy's ``tofile`` reports counts, and torch's zip writer a position in the file.
_DISK_FULL_TEXT = re.compile(
    r"No space left on device|os error 28|Disk quota exceeded|os error 122|\d+ requested and \d+ written"
    r"|unexpected pos \d+ vs \d+"
)


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to ``path`` when the block ends without an error.

    The file is flushed to disk before the rename and the folder after it, so that a crash or a power failure leaves
    either the old file or the new one. The mode is that of the file that is replaced, or follows the umask. Temporary
    files that killed processes of this machine left for the same path are removed.

    Args:
        path: File to write; its folder is made.
        durable: Flush to disk. False for one of thousands of files that can be made again, which flushing would make
            several times as slow; the temporary name is then always the same, so that one writer at a time is allowed.

    Raises:
        FullDiskError: The disk is full; the old file, if any, is unchanged.
    """
    path = Path(path)
    with disk_full_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            _remove_stale(path)
        writer = f".{socket.gethostname()}-{os.getpid()}" if durable else ""
        temporary = path.with_name(f".{path.name}{writer}.tmp")
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            temporary.open("wb").close()
            mode = (path if path.exists() else temporary).stat().st_mode & 0o7777
            yield temporary
            os.chmod(temporary, mode)  # some libraries replace the file by one that only its owner can read
            if durable:
                _flush(temporary)
            os.replace(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename in (str(temporary), temporary):
                error.filename = str(path)
            raise
        if durable:
            _flush(path.parent)


def write_bytes(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write a file atomically; see :func:`atomic_path`."""
    with atomic_path(path, durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically; file names that are not UTF-8 keep their bytes (``surrogateescape``)."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Write a JSON file atomically, with a newline at its end.

    Args:
        path: File to write.
        content: What to write.
        **options: Of ``json.dumps``, such as ``indent=1``.
    """
    write_text(path, json.dumps(content, **options) + "\n")


def read_json(path: str | Path, remedy: str = "remove it and give the same command again") -> Any:
    """Read a JSON file that :func:`write_json` wrote.

    Args:
        path: The file.
        remedy: What to do about a damaged one, for the message.

    Raises:
        FileNotFoundError: The file does not exist.
        DataError: The file is not JSON, or cannot be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged or unreadable ({type(error).__name__}: {error}); {remedy}") from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error comes from a full disk or an exceeded quota, by its number or its words."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    return isinstance(error, FullDiskError) or bool(_DISK_FULL_TEXT.search(str(error)))


@contextmanager
def disk_full_errors(path: str | Path, remedy: str = "make room and give the same command again") -> Iterator[None]:
    """Turn a full disk or an exceeded quota into one line that names the file.

    Args:
        path: What is being written.
        remedy: What to do, for the message.

    Raises:
        FullDiskError: The disk is full.
    """
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise FullDiskError(f"{path}: no space left on the disk; {remedy}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some file systems cannot flush a folder.
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    ours = re.compile(re.escape(f".{path.name}.{socket.gethostname()}-") + r"(\d+)\.tmp")
    for entry in os.scandir(path.parent):
        match = ours.fullmatch(entry.name)
        if match and not _is_running(int(match[1])):
            Path(entry.path).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return process != os.getpid()
