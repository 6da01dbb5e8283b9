"""Checks of devices, files and folders before they are used."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from proteus.structures import UserError


def check_device(name: str | torch.device) -> str:
    """Return the name of a device if this machine has it.

    Raises:
        UserError: The machine does not have the device; the message lists those it has.
    """
    text = str(name)
    match = re.fullmatch(r"([a-z]+)(?::(\d+))?", text)
    kind = match[1] if match else ""
    if kind not in ("cpu", "cuda", "mps", "xpu"):
        raise UserError(f"unknown device {text!r}; choose from: {_available()}")
    backend = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}.get(kind)
    if backend is None:
        return text
    if not backend.is_available():
        raise UserError(f"device {text!r}: this machine has none that torch can use; choose from: {_available()}")
    count = torch.accelerator.device_count()
    if match and match[2] and int(match[2]) >= count:
        raise UserError(f"device {text!r}: this machine has {count}; choose from: {_available()}")
    return text


def expanded(name: str | Path) -> Path:
    """Return a path with the home folder in place of ``~`` or ``~user``.

    Raises:
        UserError: The home folder is unknown.
    """
    try:
        return Path(name).expanduser()
    except (RuntimeError, ValueError):
        user = Path(name).parts[0]
        raise UserError(f"{str(name)[:80]!r}: unknown home folder {user[:80]!r}; write the full path") from None


def check_file(name: str | Path) -> Path:
    """Return the path of a file if it can be read.

    Raises:
        UserError: The path is missing, a folder, or unreadable.
    """
    path = expanded(name)
    if not str(name).strip():
        raise UserError("found an empty name, expected a file")
    _probe(path, name)
    if not path.exists():
        raise UserError(f"'{name}': no such file")
    if path.is_dir():
        raise UserError(f"'{name}' is a folder; name a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"'{name}': permission denied; make the file readable")
    return path


def check_folder(name: str | Path) -> Path:
    """Return the path of a folder if it can be read.

    Raises:
        UserError: The path is missing, a file, or unreadable.
    """
    path = expanded(name)
    if not str(name).strip():
        raise UserError("found an empty name, expected a folder")
    _probe(path, name)
    if not path.exists():
        raise UserError(f"'{name}': no such folder")
    if not path.is_dir():
        raise UserError(f"'{name}' is a file; name a folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UserError(f"'{name}': permission denied; make the folder readable")
    return path


def check_out_folder(name: str | Path) -> Path:
    """Return the path of a folder if files can be written there; the folder need not exist yet.

    Raises:
        UserError: The path is a file, lies below a file, or cannot be written to.
    """
    path = expanded(name)
    if not str(name).strip():
        raise UserError("found an empty name, expected a folder to write to")
    _probe(path, name)
    there = next((folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder)), Path("/"))
    if not there.is_dir():
        what = "a file" if there.exists() else "a broken link"
        whole = f"'{name}'" if there == path else f"'{name}': '{there}'"
        raise UserError(f"{whole} is {what}; name a folder to write to")
    if not os.access(there, os.W_OK | os.X_OK):
        where = "" if there == path else f" in '{there}'"
        raise UserError(f"'{name}': permission denied{where}; name a folder that you can write to")
    return path


def _available() -> str:
    kinds = [name for name, backend in (("mps", torch.backends.mps), ("xpu", torch.xpu)) if backend.is_available()]
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ", ".join(["cpu", *cuda, *kinds])


def _probe(path: Path, name: str | Path) -> None:
    """Refuse a path that the operating system rejects."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        raise UserError(f"'{name}': permission denied in one of its folders") from None
    except OSError as error:
        raise UserError(f"'{str(name)[:80]}': {str(error.strerror).lower()}") from None
    except ValueError as error:
        raise UserError(f"{str(name)[:80]!r}: {error}") from None
