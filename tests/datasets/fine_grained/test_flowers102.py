from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from scipy.io import savemat

from proteus.datasets import Flowers102


def save(home: Path, labels, train=(3, 1), val=(2, 4), test=(6, 5)) -> None:
    savemat(home / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    splits = {"trnid": train, "valid": val, "tstid": test}
    savemat(home / "setid.mat", {name: np.array([numbers], np.uint16) for name, numbers in splits.items()})


@pytest.fixture
def home(tmp_path: Path, put_images):
    home = tmp_path / "flowers-102"
    put_images(home, [f"jpg/image_{number:05}.jpg" for number in range(1, 7)])
    save(home, [77, 1, 102, 1, 5, 77])
    return home


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_items_match_torchvision(home: Path, split, items, torchvision_items) -> None:
    images = torchvision.datasets.Flowers102.__new__(torchvision.datasets.Flowers102)
    images._check_integrity = lambda: True  # it compares checksums of the official files
    images.__init__(str(home.parent), split=split)
    assert items(Flowers102(str(home), split)) == torchvision_items(images, home)


def test_labels_and_numbers_out_of_range_are_refused(home: Path) -> None:
    save(home, [77, 1, 103, 1, 5, 77])
    with pytest.raises(ValueError, match=r"imagelabels\.mat, image 3: class 103 is out of range, .* has 1 to 102"):
        Flowers102(str(home), "train")
    save(home, [77, 1, 102, 1, 5])
    with pytest.raises(ValueError, match=r"setid\.mat, tstid: image 6, but imagelabels\.mat has 5 images"):
        Flowers102(str(home), "test")
