from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from proteus.datasets import Caltech101

CLASSES = {"BACKGROUND_Google": 50, "Faces": 31, "accordion": 40}


@pytest.fixture
def home(tmp_path: Path, put_images):
    root = tmp_path / "caltech-101"
    put_images(
        root / "101_ObjectCategories",
        [f"{name}/image_{number:04}.jpg" for name, count in CLASSES.items() for number in range(1, count + 1)],
    )
    (root / "101_ObjectCategories/BACKGROUND_Google/tmp").touch()  # as in the official archive
    return root


def test_draws_match_the_global_generator_seeded_with_0(home: Path, items) -> None:
    samples = ImageFolder(str(home / "101_ObjectCategories")).samples
    labels = np.array([label for _, label in samples])
    np.random.seed(0)
    drawn = [i for label in range(3) for i in sorted(np.random.choice(np.flatnonzero(labels == label).tolist(), 30))]
    paths = [path[len(str(home)) + 1 :] for path, _ in samples]
    assert items(Caltech101(str(home), "trainval")) == [(paths[i], labels[i]) for i in drawn]
    rest = sorted(set(range(len(samples))) - set(drawn))
    assert items(Caltech101(str(home), "test")) == [(paths[i], labels[i]) for i in rest]


def test_images_are_drawn_with_replacement_and_never_tested(home: Path, items) -> None:
    train, test = items(Caltech101(str(home), "trainval")), items(Caltech101(str(home), "test"))
    assert Counter(label for _, label in train) == {0: 30, 1: 30, 2: 30}
    assert max(Counter(path for path, _ in train).values()) > 1
    assert not {path for path, _ in train} & {path for path, _ in test}
    assert len({path for path, _ in train}) + len(test) == sum(CLASSES.values())


def test_nested_folder_of_the_archive_is_found(home: Path, items) -> None:
    assert Caltech101.find(home.parent) == home
    assert items(Caltech101(str(home.parent), "test")) == items(Caltech101(str(home), "test"))


def test_empty_classes_are_refused(home: Path) -> None:
    (home / "101_ObjectCategories/zebra").mkdir()
    with pytest.raises(ValueError, match=r"101_ObjectCategories/zebra: the class folder has no images"):
        Caltech101(str(home), "train")


def test_too_many_classes_are_refused(home: Path, put_images) -> None:
    put_images(home / "101_ObjectCategories", [f"x{number}/a.jpg" for number in range(100)])
    with pytest.raises(ValueError, match=r"has 103 classes.* Caltech-101 has 102"):
        Caltech101(str(home), "train")
