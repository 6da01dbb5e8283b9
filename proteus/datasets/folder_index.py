"""The images of a folder, listed once and remembered for as long as no folder in it changes."""

from __future__ import annotations

import json
import os
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from proteus.datasets.image_list import joined, split

_VERSION = 1
# A list that is made in less time is not worth a file, in seconds.
_WORTH_KEEPING = 1.0
# What changes within one tick of a file system's clock leaves the same mark; the coarsest tick is FAT's.
_TICK = 2_000_000_000


@dataclass
class Listing:
    """What a walk through a folder found.

    Attributes:
        names: Paths of the images below it, sorted.
        folders: When each folder, itself among them as an empty string, was changed last, before it was read; ns.
        unreadable: Folders that could not be read.
    """

    names: np.ndarray
    folders: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def image_names(root: Path, extensions: tuple[str, ...], keep_in: Path | None) -> np.ndarray:
    """List the images of a folder, or take the list that an earlier run kept.

    A kept list holds as long as every folder has its time of last change, which coming, going and renaming files
    alters; for that, folders are looked at and not read. A file whose content changes stays where it is. Several
    processes may come at once: each reads a whole list or none, and each that finds none makes its own.

    Args:
        root: The folder; links to folders are followed.
        extensions: What images' names end in, in lower case.
        keep_in: The folder where lists are kept; None to list always.

    Returns:
        The images' paths below ``root``, sorted, as :func:`~proteus.datasets.image_list.joined` joins them.
    """
    about = json.dumps({"version": _VERSION, "root": str(root.resolve()), "extensions": extensions}).encode()
    path = keep_in / f"folder-{sha1(about).hexdigest()[:16]}.npz" if keep_in else None
    if path is not None and (kept := _read(path, about, root)) is not None:
        return kept
    began, wall = time.perf_counter(), time.time_ns()
    listing = walk(root, extensions)
    seconds = time.perf_counter() - began
    if listing.unreadable:
        print_log(f"dataset.data_root: folders that cannot be read: {', '.join(listing.unreadable[:5])}", "current", 30)
    fresh = max(listing.folders.values(), default=wall) > wall - _TICK
    if path is not None and seconds >= _WORTH_KEEPING and len(listing.names) and not listing.unreadable and not fresh:
        _keep(path, about, listing, f"{root} was listed in {seconds:.1f} s")
    return listing.names


def walk(root: Path, extensions: tuple[str, ...]) -> Listing:
    """Find all images below a folder."""
    names: list[str] = []
    listing = Listing(np.empty(0, np.uint8))
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            # Before it is read: what changes in between must not pass for what was read.
            listing.folders[folder] = _changed(root, folder)
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        waiting.append(f"{folder}{entry.name}/")
                    elif entry.name.lower().endswith(extensions):
                        names.append(folder + entry.name)
        except OSError:
            listing.unreadable.append(os.path.join(root, folder))
    names.sort()
    listing.names = joined(names)
    return listing


def cache_folder() -> Path:
    """Where what can be made anew is kept: ``PROTEUS_CACHE``, or ``~/.cache/proteus``."""
    return Path(os.environ.get("PROTEUS_CACHE", "~/.cache/proteus")).expanduser()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _changed(root: Path, folder: str) -> int:
    return os.stat(os.path.join(root, folder)).st_mtime_ns


def _read(path: Path, about: bytes, root: Path) -> np.ndarray | None:
    """The names of a kept list, if it is there, whole, and holds."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if bytes(file["about"]) != about:
                return None
            names, folders, changed = file["names"], split(file["folders"]), file["changed"].tolist()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A damaged archive: NotImplementedError is zipfile's, for a compression that it finds and does not know.
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        print_log(f"{path} cannot be read and is made anew ({type(error).__name__}: {error})", "current", 30)
        return None
    try:
        holds = all(_changed(root, folder) == when for folder, when in zip(folders, changed, strict=True))
    except (OSError, ValueError):
        return None
    return names if holds else None


def _keep(path: Path, about: bytes, listing: Listing, told: str) -> None:
    """Write a list so that nobody ever sees half of it."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
            part = Path(file.name)
            np.savez(
                file,
                about=np.frombuffer(about, np.uint8),
                names=listing.names,
                folders=joined(list(listing.folders)),
                changed=np.array(list(listing.folders.values()), np.int64),
            )
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        print_log(f"{told}; the list could not be kept at {path}: {error}", "current", 30)
        return
    print_log(f"{told}; the list is kept at {path} until a folder changes", "current")
