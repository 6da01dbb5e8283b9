from pathlib import Path

import numpy as np
import pytest
import torch

from proteus.datasets import (
    CUB,
    CorruptImageError,
    LoadImage,
    OxfordIIITPet,
    PackInputs,
    SampleKey,
    ToTensor,
    fine_grained_sets,
)
from proteus.datasets.fine_grained import validation_part
from proteus.registry import DATASETS

STEPS = [LoadImage(), ToTensor(), PackInputs()]


@pytest.fixture
def make(tmp_path: Path, put_images, put_texts):
    """Write Oxford-IIIT Pets with a given number of training images."""

    def make(count):
        home = tmp_path / "oxford-iiit-pet"
        lines = [f"cat_{number} {number % 37 + 1} 1 1\n" for number in range(count)]
        put_texts(home / "annotations", {"trainval.txt": "".join(lines), "test.txt": "cat_0 1 1 1\n"})
        put_images(home / "images", [f"cat_{number}.jpg" for number in range(count)])
        return home

    return make


@pytest.mark.parametrize("count", [1, 4, 5, 23, 60])
def test_validation_is_the_first_fifth_of_a_numpy_shuffle_with_seed_0(make, items, count) -> None:
    """The first floor(0.2 n) of a shuffled list, as released (docs/reproduction.md#fine-grained-classification)."""
    home = str(make(count))
    np.random.seed(0)
    shuffled = list(range(count))
    np.random.shuffle(shuffled)
    fifth = int(np.floor(0.2 * count))
    everything = items(OxfordIIITPet(home, "trainval"))
    assert len(everything) == count
    assert items(OxfordIIITPet(home, "train")) == [everything[i] for i in sorted(shuffled[fifth:])]
    if fifth:
        assert items(OxfordIIITPet(home, "val")) == [everything[i] for i in sorted(shuffled[:fifth])]
    else:
        with pytest.raises(ValueError, match=r"Oxford-IIIT Pets in .* has no images in split='val'"):
            OxfordIIITPet(home, "val")
    assert np.flatnonzero(OxfordIIITPet(home, "trainval").in_val()).tolist() == sorted(shuffled[:fifth])


def test_split_leaves_the_global_generator_alone() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    assert validation_part(50_000).sum() == 10_000
    assert np.array_equal(np.random.get_state()[1], before)


def test_labels_match_samples_also_with_indices(make) -> None:
    home = str(make(12))
    images = OxfordIIITPet(home, "trainval", STEPS, indices=[7, 2])
    assert images.labels().tolist() == [7, 2]
    assert images.in_val().tolist() == validation_part(12)[[7, 2]].tolist()
    assert [images[i]["data_samples"].label for i in range(2)] == [7, 2]
    assert torch.equal(images[SampleKey(0, 3, 1)]["inputs"], images[1]["inputs"])


def test_a_corrupt_image_is_named_and_never_replaced(make) -> None:
    home = make(3)
    (home / "images/cat_1.jpg").write_bytes(b"not an image")
    images = OxfordIIITPet(str(home), "trainval", STEPS)
    assert "corrupt" not in images[0]["data_samples"]
    with pytest.raises(CorruptImageError, match=r"images/cat_1\.jpg"):
        images[1]


def test_unofficial_copies_work_and_are_described(make, monkeypatch) -> None:
    home = str(make(10))
    images = OxfordIIITPet(home, "trainval")
    assert images.differences == "10 images, officially 3,680; images in 10 of 37 classes"
    assert images.describe().endswith(f"(trainval) {home}: 10 images, 37 classes ({images.differences})")
    assert OxfordIIITPet(home, "train").differences.startswith("8 images, officially 2,944")
    assert OxfordIIITPet(home, "val").differences.startswith("2 images, officially 736")
    assert OxfordIIITPet(home, "test").differences.startswith("1 images, officially 3,669")
    monkeypatch.setattr(OxfordIIITPet, "sizes", (10, None, 1))
    monkeypatch.setattr(OxfordIIITPet, "num_classes", 10)
    assert OxfordIIITPet(home, "trainval").differences == OxfordIIITPet(home, "val").differences[:0] == ""
    assert OxfordIIITPet(home, "trainval").describe() == f"Oxford-IIIT Pets (trainval) {home}: 10 images, 10 classes"


def test_unknown_splits_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"dataset\.split='valid': write one of 'train', 'val', 'trainval', 'test'"):
        OxfordIIITPet(str(make(1)), "valid")


@pytest.mark.parametrize("name", fine_grained_sets())
def test_missing_sets_and_files_are_reported_with_the_layout(tmp_path: Path, name) -> None:
    kind = fine_grained_sets()[name]
    assert DATASETS.get(kind.__name__) is kind
    assert kind.find(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere") as no_folder:
        kind(str(tmp_path / "nowhere"), "test")
    with pytest.raises(FileNotFoundError, match=r"is missing\nexpected files ") as no_file:
        kind(str(tmp_path), "test")
    for error in (no_folder, no_file):
        assert kind.title in str(error.value)
        assert all(line in str(error.value) for line in kind.layout.strip().splitlines())


def test_properties_of_the_papers_sets() -> None:
    """The table of docs/reproduction.md#fine-grained-classification; CUB tests on 5,794 of its 11,788 images."""
    known = {
        name: (kind.num_classes, kind.metric, kind.has_val, *kind.sizes) for name, kind in fine_grained_sets().items()
    }
    assert known == {
        "aircraft": (100, "mean_per_class", True, 3334, 3333, 3333),
        "caltech101": (102, "mean_per_class", False, 3060, None, None),
        "cars": (196, "top1", False, 8144, None, 8041),
        "cifar10": (10, "top1", False, 50000, None, 10000),
        "cifar100": (100, "top1", False, 50000, None, 10000),
        "dtd": (47, "top1", True, 1880, 1880, 1880),
        "flowers": (102, "mean_per_class", True, 1020, 1020, 6149),
        "food101": (101, "top1", False, 75750, None, 25250),
        "pets": (37, "mean_per_class", False, 3680, None, 3669),
        "sun397": (397, "top1", False, 19850, None, 19850),
        "voc2007": (20, "map11", True, 2501, 2510, 4952),
        "cub": (200, "top1", False, 5994, None, 5794),
        "gtsrb": (43, "top1", False, 26640, None, 12630),
        "country211": (211, "top1", True, 31650, 10550, 21100),
    }
    assert CUB.sizes[0] + CUB.sizes[2] == 11_788
