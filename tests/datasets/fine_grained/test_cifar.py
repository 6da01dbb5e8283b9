import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from proteus.datasets import CIFAR10, CIFAR100, LoadImage, PackInputs, ToTensor
from proteus.datasets.fine_grained.cifar import SIDE, encode_ppm, read_pickle

STEPS = [LoadImage(), ToTensor(), PackInputs()]


def python2_pickle(data: np.ndarray, labels: dict[str, list[int]]) -> bytes:
    """Encode as Python 2's cPickle and NumPy did in 2009: protocol 2, byte strings, numpy.core.multiarray."""

    def string(text: bytes) -> bytes:
        return b"T" + len(text).to_bytes(4, "little") + text if len(text) > 255 else b"U" + bytes([len(text)]) + text

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    rebuilt = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"|")
        + b"NNN"
        + number(-1) * 2
        + b"K\x00tb"
    )
    shape = b"".join(map(number, data.shape)) + b"\x86"
    array = rebuilt + b"(K\x01" + shape + kind + b"\x89" + string(data.tobytes()) + b"tb"
    items = string(b"batch_label") + string(b"training batch 1 of 5") + string(b"data") + array
    for key, values in labels.items():
        items += string(key.encode()) + b"](" + b"".join(map(number, values)) + b"e"
    return b"\x80\x02}(" + items + string(b"filenames") + b"](" + string(b"a_s_1.png") + b"eu."


def content(name: str, classes: int) -> tuple[np.ndarray, list[int]]:
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(0, 256, (4, 3072), dtype=np.uint8), generator.integers(0, classes, 4).tolist()


def write_cifar10(home: Path) -> None:
    home.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data, labels = content(name, 10)
        (home / name).write_bytes(python2_pickle(data, {"labels": labels}))


def write_cifar100(home: Path) -> None:
    home.mkdir()
    for name in ("train", "test"):
        data, fine = content(name, 100)
        (home / name).write_bytes(python2_pickle(data, {"coarse_labels": [19] * 4, "fine_labels": fine}))


class Unchecked:
    """torchvision's readers without the checksums of the official files."""

    class Ten(torchvision.datasets.CIFAR10):
        _check_integrity = _load_meta = lambda self: True

    class Hundred(torchvision.datasets.CIFAR100):
        _check_integrity = _load_meta = lambda self: True


@pytest.mark.parametrize(
    ("ours", "theirs", "write"),
    [(CIFAR10, Unchecked.Ten, write_cifar10), (CIFAR100, Unchecked.Hundred, write_cifar100)],
)
@pytest.mark.parametrize(("split", "train"), [("trainval", True), ("test", False)])
def test_pickles_match_torchvision(tmp_path: Path, ours, theirs, write, split, train) -> None:
    write(tmp_path / theirs.base_folder)
    other = theirs(str(tmp_path), train=train)
    for home in (tmp_path / theirs.base_folder, tmp_path):
        images = ours(str(home), split, STEPS)
        assert images.labels().tolist() == other.targets
        pixels = np.stack([images[i]["inputs"].permute(1, 2, 0).numpy() for i in range(len(images))])
        assert np.array_equal(pixels, other.data)
    assert ours.find(tmp_path) == tmp_path / theirs.base_folder


def test_images_have_unique_names_and_splits_do_not_overlap(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar")
    parts = {split: CIFAR10(str(tmp_path / "cifar"), split, STEPS) for split in ("trainval", "train", "val")}
    names = {split: [part[i]["data_samples"].img_path for i in range(len(part))] for split, part in parts.items()}
    assert len(set(names["trainval"])) == 20
    assert [len(names[split]) for split in ("train", "val")] == [16, 4]
    assert sorted(names["train"] + names["val"]) == sorted(names["trainval"])
    whole = {name: parts["trainval"][i]["inputs"] for i, name in enumerate(names["trainval"])}
    assert all((parts["val"][i]["inputs"] == whole[name]).all() for i, name in enumerate(names["val"]))


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_python_3(tmp_path: Path, protocol: int) -> None:
    write_cifar10(tmp_path / "old")
    write_cifar10(tmp_path / "new")
    for path in (tmp_path / "new").iterdir():
        data, labels = content(path.name, 10)
        path.write_bytes(pickle.dumps({"data": data, "labels": labels}, protocol=protocol))
    old, new = (CIFAR10(str(tmp_path / name), "trainval", STEPS) for name in ("old", "new"))
    assert new.labels().tolist() == old.labels().tolist()
    assert all((new[i]["inputs"] == old[i]["inputs"]).all() for i in range(20))


class Evil:
    def __init__(self, call: Callable, *args: str) -> None:
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_with_code_are_refused_and_not_executed(tmp_path: Path, protocol: int) -> None:
    write_cifar10(tmp_path / "cifar")
    data, labels = content("test_batch", 10)
    evils = {
        "builtins.eval|__builtin__.eval": Evil(eval, f"open({str(tmp_path / 'ran')!r}, 'w')"),
        "posix.system": Evil(__import__("os").system, f"touch {tmp_path / 'ran'}"),
    }
    for named, evil in evils.items():
        for entry in (evil, {"x": [evil], "data": data, "labels": labels}, {"data": evil, "labels": labels}):
            (tmp_path / "cifar/test_batch").write_bytes(pickle.dumps(entry, protocol=protocol))
            with pytest.raises(ValueError, match=rf"cifar/test_batch was not read: .* asks for ({named})"):
                CIFAR10(str(tmp_path / "cifar"), "test")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ([1, 2], "'data' must be a uint8 array"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, "'data' must be a uint8 array of 3072 bytes"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]}, "has an array of 'f4', not of bytes"),
        ({"data": np.array([[None]]), "labels": [1, 2]}, "has an array of 'O8', not of bytes"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "'labels' must be a list of 2 labels"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]}, "'labels' must be a list of 2 labels"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}, "test_batch, image 1: class 10 is out of range"),
    ],
)
def test_pickles_of_other_data_are_refused(tmp_path: Path, entry, match) -> None:
    write_cifar10(tmp_path / "cifar")
    (tmp_path / "cifar/test_batch").write_bytes(pickle.dumps(entry, protocol=2))
    with pytest.raises(ValueError, match=match):
        CIFAR10(str(tmp_path / "cifar"), "test")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "python")
    path = tmp_path / "python/data_batch_3"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"data_batch_3 was not read: (UnpicklingError|EOFError)"):
        CIFAR10(str(path.parent), "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 in .*: data_batch_3 is missing"):
        CIFAR10(str(path.parent), "train")
    assert len(CIFAR10(str(path.parent), "test")) == 4


def row(first: int) -> bytes:
    """Pixels of an image with constant red, green and blue: ``first`` and the next two numbers."""
    return b"".join(bytes([first + channel]) * SIDE * SIDE for channel in range(3))


def test_pixels_and_labels_of_a_pickle(tmp_path: Path) -> None:
    pixels = np.frombuffer(row(20) + row(30), np.uint8).reshape(2, -1)
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": pixels, "labels": [1, 2]}, protocol=2))
    images, labels = read_pickle(tmp_path / "batch", "labels")
    assert labels == [1, 2]
    assert (images[0] == np.array([20, 21, 22])[:, None, None]).all()
    with pytest.raises(ValueError, match="'fine_labels' must be a list of 2 labels"):
        read_pickle(tmp_path / "batch", "fine_labels")


def test_ppm_is_read_by_pil() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    with Image.open(BytesIO(encode_ppm(pixels))) as image:
        assert (image.format, image.mode, image.size) == ("PPM", "RGB", (5, 4))
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), pixels)
