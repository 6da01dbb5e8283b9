from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torchvision.datasets import VOCDetection

from proteus.datasets import VOC2007, LoadImage, PackInputs, ToTensor, distill_collate
from proteus.datasets.fine_grained.voc2007 import CLASSES

# Objects of each image: a class, and whether it is difficult.
IMAGES = {
    "train": {"000012": [("car", False), ("person", True)], "000017": [("horse", False), ("person", False)]},
    "val": {"000005": [("chair", False), ("chair", True), ("tvmonitor", True)]},
    "test": {"000001": [("dog", False), ("person", False)], "000002": [("train", True)]},
}


def value(objects, name) -> int:
    """Value of an image in the list of a class: 1, or 0 if all its objects are difficult, or -1."""
    difficult = [hard for found, hard in objects if found == name]
    return -1 if not difficult else 0 if all(difficult) else 1


@pytest.fixture
def root(tmp_path: Path, put_images, put_texts) -> Path:
    home = tmp_path / "VOCdevkit/VOC2007"
    for part, images in IMAGES.items():
        texts = {f"{part}.txt": "".join(f"{image}\n" for image in images)}
        for name in CLASSES:
            # The value is two characters wide, as officially: "000012 -1", "000017  1".
            rows = [f"{image} {value(objects, name):2}\n" for image, objects in images.items()]
            texts[f"{name}_{part}.txt"] = "".join(rows)
        put_texts(home / "ImageSets/Main", texts)
        put_images(home / "JPEGImages", [f"{image}.jpg" for image in images])
        for image, objects in images.items():
            annotation = ElementTree.Element("annotation")
            for name, hard in objects:
                element = ElementTree.SubElement(annotation, "object")
                ElementTree.SubElement(element, "name").text = name
                ElementTree.SubElement(element, "difficult").text = str(int(hard))
            put_texts(home / "Annotations", {f"{image}.xml": ElementTree.tostring(annotation, encoding="unicode")})
    return tmp_path


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_labels_are_the_classes_with_an_object_that_is_not_difficult(root: Path, part: str) -> None:
    ours = VOC2007(str(root / "VOCdevkit"), part)
    theirs = VOCDetection(str(root), year="2007", image_set=part)
    assert [ours.get_data_info(i)["img_path"] for i in range(len(ours))] == theirs.images
    assert ours.labels().dtype == np.int8
    for labels, (_, target) in zip(ours.labels(), theirs, strict=True):
        objects = target["annotation"]["object"]
        present = {entry["name"] for entry in objects if entry["difficult"] == "0"}
        assert {name for name, label in zip(CLASSES, labels, strict=True) if label} == present


def test_trainval_is_train_and_val_and_a_batch_has_all_labels(root: Path) -> None:
    assert VOC2007.find(root) == root / "VOCdevkit/VOC2007"
    images = VOC2007(str(root), "trainval", [LoadImage(), ToTensor(), PackInputs()])
    assert images.in_val().tolist() == [False, False, True]
    batch = distill_collate([images[i] for i in range(3)])
    assert torch.equal(batch["labels"], torch.from_numpy(images.labels()))
    assert batch["labels"].shape == (3, 20)


def test_inconsistent_lists_are_refused(root: Path) -> None:
    path = root / "VOCdevkit/VOC2007/ImageSets/Main/bird_train.txt"
    path.write_text("000012 -1\n")
    with pytest.raises(ValueError, match=r"bird_train\.txt lists 1 images, but aeroplane_train\.txt lists 2 others"):
        VOC2007(str(root), "train")
    path.write_text("000012 -1\n000017  2\n")
    with pytest.raises(ValueError, match=r"bird_train\.txt, line 2: '2' is not 1, 0 or -1"):
        VOC2007(str(root), "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"ImageSets/Main/bird_train\.txt is missing\nexpected files"):
        VOC2007(str(root), "train")
