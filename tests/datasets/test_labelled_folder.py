from pathlib import Path

import pytest
import torch
from PIL import Image

from proteus.datasets import LabelledFolder, LoadImage, PackInputs, ToTensor, UniformMask, distill_collate
from proteus.datasets.seeding import SampleKey

PIPELINE = [LoadImage(), ToTensor(), PackInputs()]
WITH_MASK = [*PIPELINE[:-1], UniformMask(patch_size=4), PIPELINE[-1]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """ImageNet's layout: n02 has two images (one in a subfolder), n01 and n10 one each; the colour is the class."""
    for path, colour in (("n02/b.png", 2), ("n02/x/a.png", 2), ("n01/c.png", 1), ("n10/d.png", 10)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour, colour, colour)).save(tmp_path / path)
    return tmp_path


def test_classes_are_the_sorted_first_folders(root: Path) -> None:
    images = LabelledFolder(data_root=str(root), pipeline=PIPELINE)
    assert images.classes_found == ["n01", "n02", "n10"]
    samples = [images[i] for i in range(len(images))]
    names = [Path(sample["data_samples"].img_path).name for sample in samples]
    assert dict(zip(names, (s["data_samples"].label for s in samples), strict=True)) == {
        "a.png": 1,
        "b.png": 1,
        "c.png": 0,
        "d.png": 2,
    }


def test_subsets_keep_the_labels(root: Path) -> None:
    whole = {1: 0, 2: 1, 10: 2}
    for options in ({"indices": [3]}, {"classes": 1}, {"classes": 1, "subset_seed": 1}, {"images_per_class": 1}):
        part = LabelledFolder(data_root=str(root), pipeline=PIPELINE, **options)
        for i in range(len(part)):
            sample = part[i]
            assert sample["data_samples"].label == whole[sample["inputs"][0, 0, 0].item()]


def test_replacements_of_corrupt_images_have_their_own_label(root: Path) -> None:
    (root / "n01/c.png").write_bytes(b"no image")
    images = LabelledFolder(data_root=str(root), pipeline=PIPELINE)
    for epoch in range(4):
        sample = images[SampleKey(0, epoch, 0)]
        assert sample["data_samples"].corrupt
        assert sample["data_samples"].label == {2: 1, 10: 2}[sample["inputs"][0, 0, 0].item()]


def test_batches_have_labels_and_masks(root: Path) -> None:
    images = LabelledFolder(data_root=str(root), pipeline=WITH_MASK)
    batch = distill_collate([images[i] for i in (3, 0, 1)])
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [2, 0, 1]
    assert len(batch["masks"]) == 1


def test_images_without_a_class_are_refused(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png is not in a class folder"):
        LabelledFolder(data_root=str(root), pipeline=PIPELINE)


def test_empty_class_folders_are_refused(root: Path) -> None:
    (root / "n05/deeper").mkdir(parents=True)
    (root / "n05/deeper/notes.txt").write_text("no image")
    (root / ".cache").mkdir()
    with pytest.raises(FileNotFoundError, match=r"class folder .*n05 has no images.*complete it"):
        LabelledFolder(data_root=str(root), pipeline=PIPELINE)


def test_splits_have_the_same_labels(root: Path) -> None:
    sides = [LabelledFolder(data_root=str(root), split=side, held_out=0.5) for side in ("train", "held-out")]
    assert [side.classes_found for side in sides] == [["n01", "n02", "n10"]] * 2
    assert sum(map(len, sides)) == 4
    assert all(len(side) < 4 for side in sides)


def test_incomplete_copies_are_refused(root: Path) -> None:
    assert len(LabelledFolder(data_root=str(root), num_classes=3)) == 4
    with pytest.raises(ValueError, match=r"1000, but .* has 3 class folders: .*num_classes=3 in .*model\.head\.loss$"):
        LabelledFolder(data_root=str(root), num_classes=1000)
