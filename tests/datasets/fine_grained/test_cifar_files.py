"""Bytes by hand; the sets themselves are compared with torchvision's in test_cifar.py."""

import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets.fine_grained.cifar_files import SIDE, as_ppm, read_binary, read_pickle


def row(first: int) -> bytes:
    """An image whose red, green and blue are ``first`` and the next two numbers."""
    return b"".join(bytes([first + channel]) * SIDE * SIDE for channel in range(3))


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_labels_stand_before_the_bytes_and_the_last_counts(tmp_path: Path, label_bytes: int) -> None:
    path = tmp_path / "batch.bin"
    path.write_bytes(b"".join(bytes([7] * (label_bytes - 1) + [label]) + row(10 * label) for label in (3, 5)))
    images, labels = read_binary(path, label_bytes)
    assert labels == [3, 5]
    assert images.shape == (2, 3, SIDE, SIDE)
    assert (images[1] == np.array([50, 51, 52])[:, None, None]).all()


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_a_byte_too_few_or_many_is_told(tmp_path: Path, label_bytes: int) -> None:
    path = tmp_path / "batch.bin"
    whole = bytes(label_bytes) + row(0)
    for content in (whole[:-1], whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"batch\.bin is cut short"):
            read_binary(path, label_bytes)


def test_a_pickle_gives_the_same_as_bytes(tmp_path: Path) -> None:
    pixels = np.frombuffer(row(20) + row(30), np.uint8).reshape(2, -1)
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": pixels, "labels": [1, 2]}, protocol=2))
    images, labels = read_pickle(tmp_path / "batch", "labels")
    assert labels == [1, 2]
    assert (images[0] == np.array([20, 21, 22])[:, None, None]).all()
    with pytest.raises(ValueError, match="'fine_labels' must be a list of 2 labels"):
        read_pickle(tmp_path / "batch", "fine_labels")


def test_ppm_is_read_by_pil() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    with Image.open(BytesIO(as_ppm(pixels))) as image:
        assert (image.format, image.mode, image.size) == ("PPM", "RGB", (5, 4))
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), pixels)
