"""The two archives in which CIFAR-10 and CIFAR-100 come: Python pickles and plain bytes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32
_BYTES = 3 * SIDE * SIDE
# What NumPy calls to rebuild an array; the module that it lives in is private and has moved.
_rebuild: Any = np.empty(0, np.uint8).__reduce__()[0]


def read_pickle(path: Path, labels: str) -> tuple[np.ndarray, list[Any]]:
    """Read a file of the Python archive as data: nothing but dicts, lists, text, numbers and byte arrays is admitted.

    Args:
        path: The file, for instance ``data_batch_1``.
        labels: The key of the labels.

    Returns:
        The images ``(N, 3, 32, 32)`` uint8 and their N labels, unchecked.

    Raises:
        ValueError: It asks for anything else, or is no such file; nothing of it was run.
    """
    with path.open("rb") as file:
        try:
            content = _DataUnpickler(file, encoding="latin1").load()
        except Exception as error:  # a damaged pickle raises whatever it stumbles over
            raise ValueError(f"{path} was not read: {type(error).__name__}: {error}") from error
    pixels = content.get("data") if isinstance(content, dict) else None
    numbers = content.get(labels) if isinstance(content, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_BYTES,):
        raise ValueError(f"{path}: 'data' must be a uint8 array of {_BYTES} bytes an image, as in the official archive")
    if not isinstance(numbers, list) or len(numbers) != len(pixels):
        raise ValueError(f"{path}: {labels!r} must be a list of {len(pixels)} labels, as in the official archive")
    return pixels.reshape(-1, 3, SIDE, SIDE), numbers


def read_binary(path: Path, label_bytes: int) -> tuple[np.ndarray, list[Any]]:
    """Read a file of the binary archive.

    Args:
        path: The file, for instance ``data_batch_1.bin``.
        label_bytes: How many labels precede an image's bytes; the last of them is meant (CIFAR-100's first is coarse).

    Returns:
        The images ``(N, 3, 32, 32)`` uint8 and their N labels, unchecked.

    Raises:
        ValueError: It does not hold whole images.
    """
    content = np.fromfile(path, np.uint8)
    if len(content) % (label_bytes + _BYTES):
        raise ValueError(
            f"{path} is cut short or no such file: {len(content):,} bytes are no multiple of {label_bytes + _BYTES:,}"
        )
    rows = content.reshape(-1, label_bytes + _BYTES)
    return rows[:, label_bytes:].reshape(-1, 3, SIDE, SIDE), rows[:, label_bytes - 1].tolist()


def as_ppm(pixels: np.ndarray) -> bytes:
    """Make an image file of ``(3, H, W)`` uint8; PPM, since it costs no compression and loses nothing."""
    _, height, width = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes()


def _byte_type(kind: str, *_: Any) -> np.dtype:
    if kind not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"it holds an array of {kind!r}, not of bytes")
    # A copy, since the pickle sets its state.
    return np.dtype("u1", False, True)


def _text_bytes(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes so, where it writes for Python 2.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text in {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _byte_type,
    ("_codecs", "encode"): _text_bytes,
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which a CIFAR file never does; take the official archive"
            )
        return _ADMITTED[module, name]
