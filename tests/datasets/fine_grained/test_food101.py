import json
from pathlib import Path

import pytest
import torchvision.datasets

from proteus.datasets import Food101

TRAIN = {"churros": ["churros/9", "churros/1"], "apple_pie": ["apple_pie/3", "apple_pie/2", "apple_pie/1"]}
TEST = {"churros": ["churros/5"], "apple_pie": ["apple_pie/4"]}


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "food-101"
    texts = {"classes.txt": "apple_pie\nchurros\n"}
    for name, images in (("train", TRAIN), ("test", TEST)):
        listed = [image for some in images.values() for image in some]
        texts[f"{name}.json"] = json.dumps(images)
        texts[f"{name}.txt"] = "".join(f"{image}\n" for image in sorted(listed))
        put_images(home / "images", [f"{image}.jpg" for image in listed])
    put_texts(home / "meta", texts)
    return home


@pytest.mark.parametrize(("split", "other"), [("trainval", "train"), ("test", "test")])
def test_items_match_torchvision(home: Path, split, other, items, torchvision_items) -> None:
    images = torchvision.datasets.Food101(str(home.parent), split=other)
    assert items(Food101(str(home), split)) == torchvision_items(images, home)


def test_text_lists_are_read_if_json_is_missing(home: Path, items) -> None:
    whole = items(Food101(str(home), "trainval"))
    (home / "meta/train.json").unlink()
    assert items(Food101(str(home), "trainval")) == sorted(whole)


def test_damaged_json_is_refused(home: Path) -> None:
    for text in ("{", "[1]", '{"churros": 3}'):
        (home / "meta/train.json").write_text(text)
        with pytest.raises(ValueError, match=r"train\.json does not list images by class"):
            Food101(str(home), "train")
