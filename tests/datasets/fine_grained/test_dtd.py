from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import DTD


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    """torchvision wants dtd/dtd; the archive alone makes dtd."""
    home = tmp_path / "dtd/dtd"
    train = ["zigzagged/z_1", "banded/b_9", "banded/b_2"]
    splits = {"train1": train, "val1": ["zigzagged/z_3"], "test1": ["banded/b_4"]}
    for name, images in splits.items():
        put_texts(home / "labels", {f"{name}.txt": "".join(f"{image}.jpg\n" for image in images)})
        put_images(home / "images", [f"{image}.jpg" for image in images])
    return home


def test_as_torchvision_reads_it(home: Path, told, told_by_torchvision) -> None:
    images = torchvision.datasets.DTD(str(home.parent.parent), split="train")
    assert told(DTD(str(home.parent), "train")) == told_by_torchvision(images, home)


def test_a_class_keeps_its_number_in_a_split_that_lacks_others(home: Path, told) -> None:
    assert told(DTD(str(home), "val")) == [("images/zigzagged/z_3.jpg", 1)]
    assert told(DTD(str(home), "test")) == [("images/banded/b_4.jpg", 0)]


def test_a_missing_image_is_named_with_its_line(home: Path) -> None:
    (home / "images/banded/b_9.jpg").unlink()
    match = r"of DTD, 1 of the 4 images listed are missing, the first of them .*b_9\.jpg \(.*train1\.txt, line 2\)"
    with pytest.raises(FileNotFoundError, match=match):
        DTD(str(home), "trainval")
    assert len(DTD(str(home), "test")) == 1
