"""Pairs in both layouts, and the patches that images give to a memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proteus.datasets import MaskFolders, PatchMemory
from proteus.datasets.segmentation.mask_folders import find_num_classes
from proteus.structures import DataError

STEPS = [{"type": "LoadImage"}, {"type": "ResizeSquare", "scale": 8}, {"type": "ToTensor"}, {"type": "PackInputs"}]


def write(root: Path, part: str, names: list[str], label: int = 1) -> None:
    for number, name in enumerate(names):
        mask = np.full((6, 9), 255, np.uint8)
        mask[:, :3], mask[:, 3:6] = 0, label
        mask[0, 0] = number
        for folder, pixels, ending in (
            ("images", np.zeros((6, 9, 3), np.uint8), ".jpg"),
            ("annotations", mask, ".png"),
        ):
            path = root / folder / part / f"{name}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("train", "val"), [("training", "validation"), ("train", "val"), ("train", "test")])
def test_parts_have_the_names_of_both_layouts(tmp_path: Path, train: str, val: str) -> None:
    write(tmp_path, train, ["b", "a/c"])
    write(tmp_path, val, ["x.y"], label=4)
    sets = [MaskFolders(str(tmp_path), split) for split in ("train", "val")]
    assert [Path(image).stem for image, _ in sets[0].pairs] == ["c", "b"]
    assert sets[1].pairs == [(f"{tmp_path}/images/{val}/x.y.jpg", f"{tmp_path}/annotations/{val}/x.y.png")]
    assert find_num_classes(sets) == 5
    assert np.unique(sets[1].labels(0)).tolist() == [-1, 0, 4]


def test_a_label_of_16_bits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", ["a"])
    mask = tmp_path / "annotations/train/a.png"
    Image.fromarray(np.full((6, 9), 300, np.uint16)).save(mask)
    with pytest.raises(DataError, match=r"a\.png: label 300 in a mask of 255 classes"):
        MaskFolders(str(tmp_path), "train").labels(0)
    with pytest.raises(ValueError, match=r"dataset\.split='test': write one of 'train', 'val'"):
        MaskFolders(str(tmp_path), "test")  # type: ignore[arg-type]


def test_patches_of_an_image_depend_on_seed_and_image_alone(tmp_path: Path) -> None:
    write(tmp_path, "train", list("abcdef"))
    masks = MaskFolders(str(tmp_path), "train", STEPS, num_classes=6)
    memory = PatchMemory(masks, (6, 9), 6 * 10, seed=3)
    samples = [memory[position]["data_samples"] for position in range(6)]
    assert all(sample.patch_index.shape == (10,) and sample.patch_labels.shape == (10, 6) for sample in samples)
    for image, sample in enumerate(samples):
        # One patch per pixel: its label is the pixel's.
        labels = masks.labels(image).flatten()[sample.patch_index]
        assert labels.tolist() == sample.patch_labels.argmax(1).tolist()
        assert set(labels.tolist()) == set(np.unique(masks.labels(image))) - {-1}
    again = PatchMemory(masks, (6, 9), 6 * 10, seed=3)[4]["data_samples"]
    assert again.patch_index.tolist() == samples[4].patch_index.tolist()
    assert samples[0].patch_index.tolist() != samples[1].patch_index.tolist()
    assert (
        PatchMemory(masks, (6, 9), 4, seed=0).chosen.tolist() != PatchMemory(masks, (6, 9), 4, seed=1).chosen.tolist()
    )


def test_images_with_few_labelled_patches_are_filled_up(tmp_path: Path) -> None:
    write(tmp_path, "train", ["a"])
    memory = PatchMemory(MaskFolders(str(tmp_path), "train", STEPS, num_classes=2), (6, 9), 1000)
    sample = memory[0]["data_samples"]
    assert memory.per_image == 54
    assert sample.patch_labels.sum(1).tolist() == [1.0] * 36 + [0.0] * 18
