from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import Country211


@pytest.fixture
def home(tmp_path: Path, put_images):
    home = tmp_path / "country211"
    put_images(home, ["train/ZW/1.jpg", "train/AD/3.jpg", "train/AD/2.jpg", "train/DE/1.jpg"])
    put_images(home, ["valid/ZW/8.jpg", "valid/AD/9.jpg", "valid/DE/9.jpg"])
    put_images(home, ["test/AD/1.jpg", "test/DE/1.jpg", "test/ZW/4.jpg"])
    return home


@pytest.mark.parametrize(("split", "other"), [("train", "train"), ("val", "valid"), ("test", "test")])
def test_items_match_torchvision(home: Path, split, other, items, torchvision_items) -> None:
    images = torchvision.datasets.Country211(str(home.parent), split=other)
    assert items(Country211(str(home), split)) == torchvision_items(images, home)


def test_a_class_missing_from_a_split_shifts_no_labels(home: Path, items) -> None:
    (home / "test/AD/1.jpg").unlink()
    (home / "test/AD").rmdir()
    assert items(Country211(str(home), "test")) == [("test/DE/1.jpg", 1), ("test/ZW/4.jpg", 2)]


def test_empty_and_unknown_classes_are_refused(home: Path, put_images) -> None:
    (home / "valid/DE/9.jpg").unlink()
    with pytest.raises(ValueError, match=r"valid/DE: the class folder has no images"):
        Country211(str(home), "trainval")
    put_images(home, ["test/XX/1.jpg"])
    with pytest.raises(ValueError, match=r"test: unknown class 'XX'; Country211 has 3 classes"):
        Country211(str(home), "test")
