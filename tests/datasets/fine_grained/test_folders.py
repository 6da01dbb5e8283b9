"""Labelled sets with one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from proteus.datasets.fine_grained import ClassFolders, ImageNet1K


def write(root: Path, **parts: dict[str, int]) -> Path:
    for part, classes in parts.items():
        for name, count in classes.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (4, 4)).save(root / part / name / f"{number}.png")
    return root


def infos(root: Path, part: Any, kind: type[ClassFolders] = ClassFolders) -> list[tuple[str, int]]:
    dataset = kind(str(root), part)
    return [(info["img_path"], info["label"]) for info in map(dataset.get_data_info, range(len(dataset)))]


def test_labels_match_torchvision(tmp_path: Path) -> None:
    root = write(tmp_path / "birds", train={"b": 5, "a": 5}, test={"a": 2, "b": 1})
    dataset = ClassFolders(str(root), "test")
    assert infos(root, "test") == TorchvisionFolder(str(root / "test")).samples
    assert (dataset.num_classes, dataset.title, dataset.metric) == (2, "birds", "top1")


def test_without_val_a_fifth_of_train_is_used(tmp_path: Path) -> None:
    root = write(tmp_path, train={"a": 6, "b": 4}, test={"a": 1})
    parts = {part: {path for path, _ in infos(root, part)} for part in ("train", "val", "trainval")}
    assert len(parts["val"]) == 2
    assert parts["train"] | parts["val"] == parts["trainval"]
    assert not parts["train"] & parts["val"]


def test_a_val_folder_is_used(tmp_path: Path) -> None:
    root = write(tmp_path, train={"a": 2, "b": 2}, val={"b": 1}, test={"a": 1})
    assert [label for _, label in infos(root, "val")] == [1]


def test_unknown_classes_are_named(tmp_path: Path) -> None:
    root = write(tmp_path, train={"a": 1}, test={"c": 1})
    with pytest.raises(ValueError, match=r"unknown class 'c'; .* has 1 classes"):
        ClassFolders(str(root), "test")


def test_empty_classes_are_named(tmp_path: Path) -> None:
    root = write(tmp_path, train={"a": 1, "b": 0}, test={"a": 1})
    with pytest.raises(ValueError, match=r"train/b.*no images"):
        ClassFolders(str(root), "train")


def test_imagenet_tests_on_its_validation_images(tmp_path: Path) -> None:
    root = write(tmp_path, train={"n01440764": 5, "n01443537": 5}, val={"n01443537": 2})
    dataset = ImageNet1K(str(root), "test")
    assert [label for _, label in infos(root, "test", ImageNet1K)] == [1, 1]
    assert dataset.num_classes == 1000
    assert "officially 50,000" in dataset.describe()
    assert len(ImageNet1K(str(root), "trainval")) == 10


def test_missing_folders_are_reported_with_the_layout(tmp_path: Path) -> None:
    root = write(tmp_path, train={"a": 1})
    with pytest.raises(FileNotFoundError, match=r"(?s)test is missing.*test/CLASS/IMAGE"):
        ClassFolders(str(root), "test")
