"""Errors that a user can correct, and the line to print for each."""

from __future__ import annotations

import errno
import io
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from proteus.structures import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
_OURS = (_PACKAGE, *(_PACKAGE.parent / name for name in ("tools", "projects")))
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_OS_ERRORS = {
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied; change its mode, or name another place",
    errno.EPERM: "permission denied; change its mode, or name another place",
    errno.EISDIR: "is a folder; name a file",
    errno.ENOTDIR: "a part of this path is a file; name a folder",
    errno.EEXIST: "exists already; remove it, or name another place",
    errno.ENOTEMPTY: "the folder is not empty; empty it, or name another place",
    errno.ENOSPC: "no space left on the disk; make room and give the same command again",
    errno.EDQUOT: "disk quota exceeded; make room and give the same command again",
    errno.EFBIG: "the file would be larger than the disk or a limit of this process (ulimit -f) allows",
    errno.EROFS: "the file system is read-only; name another place",
    errno.ENAMETOOLONG: "the name is too long; shorten it",
    errno.ELOOP: "a link that leads back to itself; remove it",
    errno.EMFILE: "too many open files; use fewer workers, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "the limit of processes is reached; use fewer workers",
    errno.ENOMEM: "not enough memory; use a smaller batch or fewer workers",
}
# Our code and libraries raise these with a sentence and without an error number.
_OS_ERROR_TYPES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_OS_ERROR_TEXT = re.compile(r"\[Errno (\d+)\] (.*?)(?:: '(.*)')?", re.DOTALL)
_FRAME = re.compile(r'File "(.+)", line (\d+), in ')
_WORKER = re.compile(r"Caught (\w+) in .*\nOriginal Traceback")
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|std::bad_alloc|Cannot allocate memory")
_KILLED_WORKER = re.compile(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)|shared memory")


def mistake(error: BaseException) -> str | None:
    """Give the line to print for an error that a user can correct.

    An error of a loader's worker process is recognised after the traceback that torch adds to it.

    Args:
        error: What was raised.

    Returns:
        The line; None if the user cannot correct the error.
    """
    name, words = name_and_words(error)
    if isinstance(error, UserError) or name in _names(UserError):
        return words
    if isinstance(error, OSError):
        return _os_error(error, words)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("proteus."):
        return words if "install" in words else f"{words}; install the package that has it (pip install ...)"
    if isinstance(error, RuntimeError) and _KILLED_WORKER.search(words):
        return (
            "a process that reads images was killed, usually by a lack of memory; use fewer workers or a smaller batch"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(words)
    ):
        first = words.strip().splitlines()[0].rstrip(".") if words.strip() else "the arrays do not fit"
        return f"not enough memory ({first}); use a smaller batch, smaller images or fewer workers"
    return None


def name_and_words(error: BaseException) -> tuple[str, str]:
    """Return the type and message of an error; for a loader's worker, those of the original error."""
    text = str(error)
    if text.startswith("Caught "):
        text = text.replace("\\n", "\n")  # CheckpointError escapes control characters
    worker = _WORKER.match(text)
    if worker is None:
        return type(error).__name__, text
    return worker[1], re.split(rf"^(?:[\w.]+\.)?{worker[1]}: ", text, flags=re.MULTILINE)[-1].strip()


def foreign_culprit(error: BaseException) -> str | None:
    """Name the code outside Proteus that raised an error: a toolbox, or a file of the user.

    Libraries that our code calls (torch, NumPy) are passed over.

    Returns:
        The package, or the file and line; None if Proteus raised it.
    """
    if str(error).startswith("Caught "):  # from a loader's worker, with its traceback as text
        places = [(name, int(line)) for name, line in _FRAME.findall(str(error).replace("\\n", "\n"))]
    else:
        places = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    for name, line in reversed(places):
        path = Path(name)
        if any(folder in path.parents for folder in _OURS):
            return None
        if "site-packages" in path.parts:
            package = path.parts[path.parts.index("site-packages") + 1 :][0]
            if package in ("mmengine", "mmseg", "mmpretrain", "mmcv"):
                return f"{package} ({path.name}, line {line})"
        elif path.is_file() and _STANDARD_LIBRARY not in path.parents:
            return f"{path}, line {line}"
    return None


def _names(cls: type[Exception]) -> Iterator[str]:
    yield cls.__name__
    for subclass in cls.__subclasses__():
        yield from _names(subclass)


def _os_error(error: OSError, words: str) -> str | None:
    number, name, reason = error.errno, error.filename, error.strerror
    if number is None:  # from a worker: only the text is left
        match = _OS_ERROR_TEXT.fullmatch(words)
        if match is None:
            return words if isinstance(error, _OS_ERROR_TYPES) else None
        number, reason, name = int(match[1]), match[2], match[3]
    if number in (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT):
        return None
    if name is None:
        name = _open_file(error)
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    if name is None and number in (errno.ENOENT, errno.EBADF, errno.EINVAL):
        return None  # a bug, not a wrong file
    text = _OS_ERRORS.get(number, str(reason).lower())
    if number == errno.EEXIST and name is not None and os.path.isfile(name):
        text = "is a file; remove it, or name another place"
    shown = str(name) if name is None or len(str(name)) < 300 else f"{str(name)[:300]}..."
    return text if name is None else f"{shown}: {text}"


def _open_file(error: BaseException) -> str | None:
    """Return the name of the file that was open when an error without a file name was raised."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        for value in list(frame.f_locals.values()):
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                return str(value.name)  # type: ignore[attr-defined]
    return None
