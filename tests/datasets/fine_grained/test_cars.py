from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import StanfordCars as TorchvisionStanfordCars

from proteus.datasets import StanfordCars

BOX = [("bbox_x1", "O"), ("bbox_y1", "O"), ("bbox_x2", "O"), ("bbox_y2", "O")]


def save_annotations(path, rows, labelled=True) -> None:
    """Annotations as in the devkit: a struct array with uint8 classes from 1."""
    fields = [*BOX, *([("class", "O")] if labelled else []), ("fname", "O")]
    annotations = np.empty((1, len(rows)), dtype=fields)
    for i, (name, label) in enumerate(rows):
        annotations[0, i] = (*(np.uint8(n) for n in range(4)), *([np.uint8(label)] if labelled else []), name)
    savemat(path, {"annotations": annotations})


@pytest.fixture
def home(tmp_path: Path, put_images):
    home = tmp_path / "stanford_cars"
    (home / "devkit").mkdir(parents=True)
    train = [("00001.jpg", 14), ("00002.jpg", 196), ("00003.jpg", 1), ("00004.jpg", 14), ("00005.jpg", 3)]
    save_annotations(home / "devkit/cars_train_annos.mat", train)
    save_annotations(home / "cars_test_annos_withlabels.mat", [("00001.jpg", 181), ("00002.jpg", 103)])
    names = np.array([[f"car {n}" for n in range(196)]], dtype=object)
    savemat(home / "devkit/cars_meta.mat", {"class_names": names})
    put_images(home, [*(f"cars_train/{name}" for name, _ in train), "cars_test/00001.jpg", "cars_test/00002.jpg"])
    return home


@pytest.mark.parametrize(("split", "other"), [("trainval", "train"), ("test", "test")])
def test_items_match_torchvision(home: Path, split, other, items, torchvision_items) -> None:
    images = TorchvisionStanfordCars(str(home.parent), split=other)
    assert items(StanfordCars(str(home), split)) == torchvision_items(images, home)


def test_a_single_image(home: Path, items) -> None:
    save_annotations(home / "cars_test_annos_withlabels.mat", [("00002.jpg", 103)])
    assert items(StanfordCars(str(home), "test")) == [("cars_test/00002.jpg", 102)]


@pytest.mark.parametrize("label", [0, 197])
def test_classes_out_of_range_are_refused_with_their_row(home: Path, label) -> None:
    save_annotations(home / "devkit/cars_train_annos.mat", [("00001.jpg", 5), ("00002.jpg", label)])
    with pytest.raises(ValueError, match=rf"annos\.mat, annotation 2: class {label} is out of range, .* has 1 to 196"):
        StanfordCars(str(home), "train")


def test_the_test_list_without_labels_is_refused(home: Path) -> None:
    save_annotations(home / "cars_test_annos_withlabels.mat", [("00001.jpg", 0), ("00002.jpg", 0)], labelled=False)
    with pytest.raises(ValueError, match=r"cars_test_annos_withlabels\.mat: annotations lacks class"):
        StanfordCars(str(home), "test")


def test_files_that_are_not_mat_files_are_refused(home: Path) -> None:
    (home / "devkit/cars_train_annos.mat").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"cars_train_annos\.mat is not a readable MATLAB file"):
        StanfordCars(str(home), "train")
    savemat(home / "devkit/cars_train_annos.mat", {"other": 1})
    with pytest.raises(ValueError, match=r"cars_train_annos\.mat lacks the variable annotations; it has other"):
        StanfordCars(str(home), "train")
