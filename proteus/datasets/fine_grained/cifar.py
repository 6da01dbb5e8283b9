"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.cifar_files import as_ppm, read_binary, read_pickle
from proteus.datasets.fine_grained.listing import Listed
from proteus.registry import DATASETS


@DATASETS.register_module()
class CIFAR10(FineGrainedSet):
    """CIFAR-10 (Krizhevsky, 2009), from its Python or its binary archive.

    The pickles of the Python archive are read as data, and one that holds anything else is refused
    (:func:`~proteus.datasets.fine_grained.cifar_files.read_pickle`). The images of the split's files, at most 154 MB,
    stay in memory.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.

    Attributes:
        files: The files of either side in the Python archive; those of the binary one end in ``.bin``.
        label_key: The labels' key in a pickle.
        label_bytes: How many labels precede an image in the binary files.
    """

    title = "CIFAR-10"
    num_classes = 10
    sizes = (50_000, None, 10_000)
    folder = "cifar-10-batches-py"
    other_folders: tuple[str, ...] = ("cifar-10-batches-bin", "cifar10", "cifar-10")
    nested: tuple[str, ...] = ("cifar-10-batches-py", "cifar-10-batches-bin")
    markers: tuple[str, ...] = ("data_batch_1", "data_batch_1.bin", "test_batch", "test_batch.bin")
    layout = """
data_batch_1 ... data_batch_5, test_batch (Python), or
data_batch_1.bin ... data_batch_5.bin, test_batch.bin (binary)"""
    source = "cifar-10-python.tar.gz or cifar-10-binary.tar.gz"

    files: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    }
    label_key = "labels"
    label_bytes = 1

    def list_part(self, part: Part) -> list[Listed]:
        """Read the files; keep their images, and list them by file and position."""
        listed: list[Listed] = []
        images = []
        for name in self.files[part]:
            path = self.file(name, f"{name}.bin")
            if path.suffix == ".bin":
                pixels, labels = read_binary(path, self.label_bytes)
            else:
                pixels, labels = read_pickle(path, self.label_key)
            images.append(pixels)
            for number, label in enumerate(labels):
                where = f"{path}, image {number}"
                place = {"row": len(listed)}
                listed.append(Listed(f"{path}/{number}.ppm", self.numbered(label, 0, where), where, place))
        self._pixels = np.concatenate(images)
        return listed

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The image as ``img_bytes``, and an ``img_path`` to call it by."""
        info = super().get_data_info(idx)
        return {**info, "img_bytes": as_ppm(self._pixels[info["row"]])}


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """CIFAR-100 with its fine labels (Krizhevsky, 2009), as :class:`CIFAR10`.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "CIFAR-100"
    num_classes = 100
    folder = "cifar-100-python"
    other_folders = ("cifar-100-binary", "cifar100", "cifar-100")
    nested = ("cifar-100-python", "cifar-100-binary")
    markers = ("train", "train.bin", "test", "test.bin")
    layout = """
train, test (Python), or
train.bin, test.bin (binary)"""
    source = "cifar-100-python.tar.gz or cifar-100-binary.tar.gz"
    files: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    label_key = "fine_labels"
    label_bytes = 2
