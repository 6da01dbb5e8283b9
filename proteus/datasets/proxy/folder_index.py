"""List the images of a folder compactly, and cache the list until a folder changes."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, overload

import numpy as np
from mmengine.logging import print_log

from proteus.structures import FullDiskError
from proteus.utils import atomic_path
from proteus.utils.files import Walk, walk

_VERSION = 3
# Seconds; lists that are made faster are not cached.
_MIN_LISTING_TIME = 1.0
# Two changes within one tick of a file system's clock get the same time. The coarsest tick is FAT's, in ns.
_CLOCK_TICK = 2_000_000_000
_ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}


class ImageList(Sequence[dict[str, Any]]):
    """List of images in a few arrays; the dict of an image is made on access.

    A million dicts take half a gigabyte, and seconds to pickle. Arrays load at once and are shared by forked processes.

    Args:
        root: Folder of the images, with a trailing slash.
        names: Paths relative to ``root`` as encoded by :func:`encode_names`.
        labels: Labels ``(N,)`` of the images, if they have any.
        positions: Images to include, in order; by default all.
    """

    def __init__(
        self, root: str, names: np.ndarray, labels: np.ndarray | None = None, positions: np.ndarray | None = None
    ) -> None:
        self.root = root
        self._names = names
        self._ends = np.flatnonzero(names == 0)
        self._labels = labels
        self._positions = positions

    @classmethod
    def of(cls, root: str, names: Sequence[str]) -> ImageList:
        """Build a list from paths relative to a folder."""
        return cls(root, encode_names(names))

    def names(self) -> list[str]:
        """Return the paths relative to the root."""
        everything = decode_names(self._names)
        return everything if self._positions is None else [everything[position] for position in self._positions]

    def labelled(self, labels: Sequence[int]) -> ImageList:
        """Return the same images with labels."""
        all_labels = np.zeros(len(self._ends), np.int64)
        all_labels[slice(None) if self._positions is None else self._positions] = labels
        return ImageList(self.root, self._names, all_labels, self._positions)

    def take(self, positions: Sequence[int] | np.ndarray) -> ImageList:
        """Return the images at some positions."""
        chosen = np.asarray(positions, dtype=np.int64)
        return ImageList(
            self.root, self._names, self._labels, chosen if self._positions is None else self._positions[chosen]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self._ends if self._positions is None else self._positions)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> ImageList: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | ImageList:
        """Return ``img_path`` and, if images are labelled, ``label`` of an image; or a list for a slice."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} images")
        index %= len(self)
        position = index if self._positions is None else int(self._positions[index])
        start = int(self._ends[position - 1]) + 1 if position else 0
        info: dict[str, Any] = {
            "img_path": self.root + str(self._names[start : self._ends[position]].data, **_ENCODING)
        }
        if self._labels is not None:
            info["label"] = int(self._labels[position])
        return info

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Iterate over the dicts of all images."""
        names = self.names()
        if self._labels is None:
            return ({"img_path": self.root + name} for name in names)
        labels = self._labels if self._positions is None else self._labels[self._positions]
        return (
            {"img_path": self.root + name, "label": label} for name, label in zip(names, labels.tolist(), strict=True)
        )


def encode_names(names: Sequence[str]) -> np.ndarray:
    """Encode names as UTF-8, each followed by a zero byte, which no file name contains; returns uint8."""
    text = "".join(f"{name}\0" for name in names)
    return np.frombuffer(text.encode(**_ENCODING), np.uint8)


def decode_names(names: np.ndarray) -> list[str]:
    """Decode the output of :func:`encode_names`."""
    return str(names.data, **_ENCODING).split("\0")[:-1] if len(names) else []


def image_names(root: Path, extensions: tuple[str, ...], keep_in: Path | None) -> np.ndarray:
    """List the images of a folder, or load the cached list of an earlier run.

    A cached list is valid while the modification times of all folders are unchanged; adding, removing or renaming a
    file changes them. The folders are only stat'ed for this check, not read. Processes may run concurrently: each reads
    a complete list or makes its own. A damaged list is reported in the log and replaced.

    Args:
        root: The folder; links to folders are followed, and each real folder is listed once
            (:func:`~proteus.utils.files.walk`).
        extensions: Endings of image names, in lower case.
        keep_in: Folder of cached lists; None to always list the folder.

    Returns:
        Sorted paths relative to ``root`` as encoded by :func:`encode_names`.
    """
    about = json.dumps({"version": _VERSION, "root": str(root.resolve()), "extensions": extensions}).encode()
    path = keep_in / f"folder-{sha1(about).hexdigest()[:16]}.npz" if keep_in else None
    if path is not None and (kept := _read(path, about, root)) is not None:
        return kept
    began, wall = time.perf_counter(), time.time_ns()
    found = walk(root, extensions)
    seconds = time.perf_counter() - began
    _log_skipped(root, found)
    if found.unreadable:
        print_log(f"dataset.data_root: folders that cannot be read: {', '.join(found.unreadable[:5])}", "current", 30)
    fresh = max(found.folders.values(), default=wall) > wall - _CLOCK_TICK
    if path is not None and seconds >= _MIN_LISTING_TIME and found.files and not found.unreadable and not fresh:
        _keep(path, about, found, f"{root} was listed in {seconds:.1f} s")
    return encode_names(found.files)


def _changed(root: Path, folder: str) -> int:
    return os.stat(os.path.join(root, folder)).st_mtime_ns


def _read(path: Path, about: bytes, root: Path) -> np.ndarray | None:
    """Load the names of a cached list; None if it is missing, damaged or outdated."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if bytes(file["about"]) != about:
                return None
            names, folders, changed = file["names"], decode_names(file["folders"]), file["changed"].tolist()
            skipped = Walk(junk=int(file["junk"]), unread=Counter(json.loads(bytes(file["unread"]))))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # zipfile and NumPy raise many types for a damaged archive
        print_log(f"{path} cannot be read and is replaced ({type(error).__name__}: {error})", "current", 30)
        return None
    try:
        is_valid = all(_changed(root, folder) == when for folder, when in zip(folders, changed, strict=True))
    except (OSError, ValueError):
        return None
    if not is_valid:
        return None
    _log_skipped(root, skipped)
    return names


def _keep(path: Path, about: bytes, found: Walk, listed: str) -> None:
    """Cache a list for later runs; a failure is only logged."""
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                about=np.frombuffer(about, np.uint8),
                names=encode_names(found.files),
                folders=encode_names(list(found.folders)),
                changed=np.array(list(found.folders.values()), np.int64),
                junk=np.array(found.junk),
                unread=np.frombuffer(json.dumps(found.unread).encode(), np.uint8),
            )
    except (OSError, FullDiskError) as error:
        print_log(f"{listed}; the list could not be cached at {path}: {error}", "current", 30)
        return
    print_log(f"{listed}; the list is cached at {path} until a folder changes", "current")


def _log_skipped(root: Path, found: Walk) -> None:
    for line in found.skipped:
        print_log(f"{root}: {line}", "current")
