"""PASCAL VOC 2007."""

from __future__ import annotations

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.registry import DATASETS

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@DATASETS.register_module()
class VOC2007(FineGrainedSet):
    """PASCAL VOC 2007 as classification with several labels (Everingham et al., 2010).

    An image has a class where the class's list says 1. Where it says 0 (all objects of the class are "difficult") it
    counts as negative, as in the released code; VOC's own evaluation leaves such an image out.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "VOC2007"
    num_classes = 20
    metric = "map11"
    has_val = True
    sizes = (2501, 2510, 4952)
    folder = "VOCdevkit/VOC2007"
    other_folders = ("VOC2007", "voc2007")
    nested = ("VOC2007", "VOCdevkit/VOC2007")
    markers = ("ImageSets/Main",)
    layout = """
ImageSets/Main/aeroplane_train.txt, aeroplane_val.txt, aeroplane_test.txt ... (20 classes)
JPEGImages/000001.jpg ..."""
    source = "VOCtrainval_06-Nov-2007.tar with VOCtest_06-Nov-2007.tar"

    def list_part(self, part: Part) -> list[Listed]:
        """Read each class's list, which says 1, 0 or -1 of each image."""
        names: dict[str, str] = {}
        columns = []
        for position, name in enumerate(CLASSES):
            path = self.file(f"ImageSets/Main/{name}_{part}.txt")
            told = {}
            for where, (image, value) in read_rows(path, 2):
                if value not in ("1", "0", "-1"):
                    raise ValueError(f"{where}: {value!r} is none of 1, 0 and -1")
                told[image] = value == "1"
                if position == 0:
                    names[image] = where
            if list(told) != list(names):
                raise ValueError(
                    f"{path} lists other images than {CLASSES[0]}_{part}.txt, {len(told)} and {len(names)}"
                )
            columns.append(np.array(list(told.values()), np.int8))
        labels = np.stack(columns, axis=1)
        return [
            Listed(f"{self.home}/JPEGImages/{image}.jpg", label, where)
            for (image, where), label in zip(names.items(), labels, strict=True)
        ]
