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
def test_as_torchvision_reads_it(home: Path, split, other, told, told_by_torchvision) -> None:
    images = torchvision.datasets.Country211(str(home.parent), split=other)
    assert told(Country211(str(home), split)) == told_by_torchvision(images, home)


def test_a_class_that_a_split_lacks_moves_no_other(home: Path, told) -> None:
    (home / "test/AD/1.jpg").unlink()
    (home / "test/AD").rmdir()
    assert told(Country211(str(home), "test")) == [("test/DE/1.jpg", 1), ("test/ZW/4.jpg", 2)]


def test_empty_and_unknown_classes_are_refused(home: Path, put_images) -> None:
    (home / "valid/DE/9.jpg").unlink()
    with pytest.raises(ValueError, match=r"valid/DE: the class's folder has no image"):
        Country211(str(home), "trainval")
    put_images(home, ["test/XX/1.jpg"])
    with pytest.raises(ValueError, match=r"test: 'XX' is none of the 3 classes of Country211"):
        Country211(str(home), "test")
