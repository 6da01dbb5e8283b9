from pathlib import Path

import pytest
from torchvision.datasets import OxfordIIITPet as TorchvisionOxfordIIITPet

from proteus.datasets import OxfordIIITPet


@pytest.fixture
def home(tmp_path: Path, put_images, put_texts):
    home = tmp_path / "oxford-iiit-pet"
    put_texts(
        home / "annotations",
        {
            "trainval.txt": "Abyssinian_100 1 1 1\nyorkshire_terrier_19 37 2 25\nBengal_7 6 1 3\n",
            "test.txt": "Abyssinian_201 1 1 1\n",
        },
    )
    names = ("Abyssinian_100", "yorkshire_terrier_19", "Bengal_7", "Abyssinian_201")
    put_images(home / "images", [f"{name}.jpg" for name in names])
    return home


@pytest.mark.parametrize("split", ["trainval", "test"])
def test_items_match_torchvision(home: Path, split, items, torchvision_items) -> None:
    images = TorchvisionOxfordIIITPet(str(home.parent), split=split)
    assert items(OxfordIIITPet(str(home), split)) == torchvision_items(images, home)


def test_breeds_out_of_range_are_refused_with_their_line(home: Path) -> None:
    for breed, what in (("38", "class 38 is out of range"), ("cat", "'cat' is not a class number")):
        (home / "annotations/test.txt").write_text(f"Abyssinian_201 {breed} 1 1\n")
        with pytest.raises(ValueError, match=rf"test\.txt, line 1: {what}"):
            OxfordIIITPet(str(home), "test")
