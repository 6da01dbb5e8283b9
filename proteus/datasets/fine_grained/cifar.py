"""CIFAR-10 and CIFAR-100, with a safe reader of their pickles."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed
from proteus.registry import DATASETS

SIDE = 32
_BYTES = 3 * SIDE * SIDE
# NumPy's function that rebuilds arrays; its private module has moved between versions.
_rebuild: Any = np.empty(0, np.uint8).__reduce__()[0]


@DATASETS.register_module()
class CIFAR10(FineGrainedSet):
    """CIFAR-10 (Krizhevsky, 2009) from its Python archive.

    The pickles of the archive are read as data; a pickle with anything else is refused (:func:`read_pickle`). The
    images of a split, at most 154 MB, stay in memory.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.

    Attributes:
        files: Files of the training and of the test images.
        label_key: Key of the labels in a file.
    """

    title = "CIFAR-10"
    num_classes = 10
    sizes = (50_000, None, 10_000)
    folder = "cifar-10-batches-py"
    other_folders: tuple[str, ...] = ("cifar10", "cifar-10")
    nested: tuple[str, ...] = ("cifar-10-batches-py",)
    markers: tuple[str, ...] = ("data_batch_1", "test_batch")
    layout = """
data_batch_1 ... data_batch_5
test_batch"""
    source = "cifar-10-python.tar.gz"

    files: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    }
    label_key = "labels"

    def list_part(self, part: Part) -> list[Listed]:
        """Read the files, keep their images in memory, and list them by file and position."""
        listed: list[Listed] = []
        images = []
        for name in self.files[part]:
            path = self.file(name)
            pixels, labels = read_pickle(path, self.label_key)
            images.append(pixels)
            for number, label in enumerate(labels):
                where = f"{path}, image {number}"
                place = {"row": len(listed)}
                listed.append(Listed(f"{path}/{number}.ppm", self.numbered(label, 0, where), where, place))
        self._pixels = np.concatenate(images)
        return listed

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the image as ``img_bytes``, and an ``img_path`` that names it in messages."""
        info = super().get_data_info(idx)
        return {**info, "img_bytes": encode_ppm(self._pixels[info["row"]])}


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """CIFAR-100 with its fine labels (Krizhevsky, 2009), read as :class:`CIFAR10`.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "CIFAR-100"
    num_classes = 100
    folder = "cifar-100-python"
    other_folders = ("cifar100", "cifar-100")
    nested = ("cifar-100-python",)
    markers = ("train", "test")
    layout = """
train
test"""
    source = "cifar-100-python.tar.gz"
    files: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    label_key = "fine_labels"


def read_pickle(path: Path, labels: str) -> tuple[np.ndarray, list[Any]]:
    """Read a file of the Python archive as data: only dicts, lists, text, numbers and byte arrays are allowed.

    Args:
        path: The file, such as ``data_batch_1``.
        labels: Key of the labels.

    Returns:
        The images ``(N, 3, 32, 32)`` uint8 and their N labels, unchecked.

    Raises:
        ValueError: The pickle asks for anything else, or is not a CIFAR file. No code in it was executed.
    """
    with path.open("rb") as file:
        try:
            content = _DataUnpickler(file, encoding="latin1").load()
        except Exception as error:  # damaged pickles raise all kinds of errors
            raise ValueError(f"{path} was not read: {type(error).__name__}: {error}") from error
    pixels = content.get("data") if isinstance(content, dict) else None
    numbers = content.get(labels) if isinstance(content, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_BYTES,):
        raise ValueError(
            f"{path}: 'data' must be a uint8 array of {_BYTES} bytes per image, as in the official archive"
        )
    if not isinstance(numbers, list) or len(numbers) != len(pixels):
        raise ValueError(f"{path}: {labels!r} must be a list of {len(pixels)} labels, as in the official archive")
    return pixels.reshape(-1, 3, SIDE, SIDE), numbers


def encode_ppm(pixels: np.ndarray) -> bytes:
    """Encode ``(3, H, W)`` uint8 as a PPM image file, which is lossless and needs no compression."""
    _, height, width = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes()


def _byte_type(kind: str, *_: Any) -> np.dtype:
    if kind not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"the file has an array of {kind!r}, not of bytes")
    # A copy, since the pickle sets the state of the dtype.
    return np.dtype("u1", False, True)


def _text_bytes(text: str, encoding: str) -> bytes:
    # Python 3 stores bytes this way in pickles for Python 2.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the file has text in {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _rebuild,
    ("numpy._core.multiarray", "_reconstruct"): _rebuild,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _byte_type,
    ("_codecs", "encode"): _text_bytes,
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"the file asks for {module}.{name}, which CIFAR files never do; use the official archive"
            )
        return _ALLOWED[module, name]
