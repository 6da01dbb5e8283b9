from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import DTD


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    """torchvision expects dtd/dtd; the archive unpacks to dtd."""
    home = tmp_path / "dtd/dtd"
    train = ["zigzagged/z_1", "banded/b_9", "banded/b_2"]
    splits = {"train1": train, "val1": ["zigzagged/z_3"], "test1": ["banded/b_4"]}
    for name, images in splits.items():
        put_texts(home / "labels", {f"{name}.txt": "".join(f"{image}.jpg\n" for image in images)})
        put_images(home / "images", [f"{image}.jpg" for image in images])
    return home


def test_items_match_torchvision(home: Path, items, torchvision_items) -> None:
    images = torchvision.datasets.DTD(str(home.parent.parent), split="train")
    assert items(DTD(str(home.parent), "train")) == torchvision_items(images, home)


def test_labels_do_not_depend_on_the_classes_of_a_split(home: Path, items) -> None:
    assert items(DTD(str(home), "val")) == [("images/zigzagged/z_3.jpg", 1)]
    assert items(DTD(str(home), "test")) == [("images/banded/b_4.jpg", 0)]


def test_missing_images_are_named_with_their_line(home: Path) -> None:
    (home / "images/banded/b_9.jpg").unlink()
    match = r"1 of the 4 images of DTD are missing, the first is .*b_9\.jpg \(.*train1\.txt, line 2\)"
    with pytest.raises(FileNotFoundError, match=match):
        DTD(str(home), "trainval")
    assert len(DTD(str(home), "test")) == 1
