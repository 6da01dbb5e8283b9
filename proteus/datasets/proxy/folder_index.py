"""The images of a folder, listed once and remembered for as long as no folder in it changes."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha1
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.proxy.image_list import joined, split
from proteus.structures import FullDiskError
from proteus.utils import atomic_path
from proteus.utils.files import Walk, describe_junk, walk

_VERSION = 2
# A list that is made in less time is not worth a file, in seconds.
_WORTH_KEEPING = 1.0
# What changes within one tick of a file system's clock leaves the same mark; the coarsest tick is FAT's.
_TICK = 2_000_000_000


def image_names(root: Path, extensions: tuple[str, ...], keep_in: Path | None) -> np.ndarray:
    """List the images of a folder, or take the list that an earlier run kept.

    A kept list holds as long as every folder has its time of last change, which coming, going and renaming files
    alters; for that, folders are looked at and not read. A file whose content changes stays where it is. Several
    processes may come at once: each reads a whole list or none, and each that finds none makes its own. A damaged list
    is named in the log and made again.

    Args:
        root: The folder; links to folders are followed, and each real folder counts once
            (:func:`~proteus.utils.files.walk`).
        extensions: What images' names end in, in lower case.
        keep_in: The folder where lists are kept; None to list always.

    Returns:
        The images' paths below ``root``, sorted, as :func:`~proteus.datasets.proxy.image_list.joined` joins them.
    """
    about = json.dumps({"version": _VERSION, "root": str(root.resolve()), "extensions": extensions}).encode()
    path = keep_in / f"folder-{sha1(about).hexdigest()[:16]}.npz" if keep_in else None
    if path is not None and (kept := _read(path, about, root)) is not None:
        return kept
    began, wall = time.perf_counter(), time.time_ns()
    found = walk(root, extensions)
    seconds = time.perf_counter() - began
    _log_junk(root, found.junk)
    if found.unreadable:
        print_log(f"dataset.data_root: folders that cannot be read: {', '.join(found.unreadable[:5])}", "current", 30)
    fresh = max(found.folders.values(), default=wall) > wall - _TICK
    if path is not None and seconds >= _WORTH_KEEPING and found.files and not found.unreadable and not fresh:
        _keep(path, about, found, f"{root} was listed in {seconds:.1f} s")
    return joined(found.files)


def cache_folder() -> Path:
    """Where what can be made anew is kept: ``PROTEUS_CACHE``, or ``~/.cache/proteus``."""
    return Path(os.environ.get("PROTEUS_CACHE", "~/.cache/proteus")).expanduser()


def _changed(root: Path, folder: str) -> int:
    return os.stat(os.path.join(root, folder)).st_mtime_ns


def _read(path: Path, about: bytes, root: Path) -> np.ndarray | None:
    """The names of a kept list, if it is there, whole, and holds."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if bytes(file["about"]) != about:
                return None
            names, folders, changed = file["names"], split(file["folders"]), file["changed"].tolist()
            junk = int(file["junk"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # zipfile and NumPy raise many types for a damaged archive
        print_log(f"{path} cannot be read and is made anew ({type(error).__name__}: {error})", "current", 30)
        return None
    try:
        holds = all(_changed(root, folder) == when for folder, when in zip(folders, changed, strict=True))
    except (OSError, ValueError):
        return None
    if not holds:
        return None
    _log_junk(root, junk)
    return names


def _keep(path: Path, about: bytes, found: Walk, listed: str) -> None:
    """Keep a list for later runs; log a failure."""
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                about=np.frombuffer(about, np.uint8),
                names=joined(found.files),
                folders=joined(list(found.folders)),
                changed=np.array(list(found.folders.values()), np.int64),
                junk=np.array(found.junk),
            )
    except (OSError, FullDiskError) as error:
        print_log(f"{listed}; the list could not be kept at {path}: {error}", "current", 30)
        return
    print_log(f"{listed}; the list is kept at {path} until a folder changes", "current")


def _log_junk(root: Path, count: int) -> None:
    if count:
        print_log(f"{root}: {describe_junk(count)}", "current")
