"""PASCAL VOC 2007 as a multi-label data set."""

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
    """PASCAL VOC 2007 for multi-label classification (Everingham et al., 2010).

    An image has a class if the list of the class gives it the value 1. The value 0 (all objects of the class are
    "difficult") counts as negative, as in the released code; VOC's own evaluation skips such images.

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
        """Read the list of each class; a line has an image and the value 1, 0 or -1."""
        names: dict[str, str] = {}
        columns = []
        for position, name in enumerate(CLASSES):
            path = self.file(f"ImageSets/Main/{name}_{part}.txt")
            present = {}
            for where, (image, value) in read_rows(path, 2):
                if value not in ("1", "0", "-1"):
                    raise ValueError(f"{where}: {value!r} is not 1, 0 or -1")
                present[image] = value == "1"
                if position == 0:
                    names[image] = where
            if list(present) != list(names):
                raise ValueError(
                    f"{path} lists {len(present)} images, but {CLASSES[0]}_{part}.txt lists {len(names)} others"
                )
            columns.append(np.array(list(present.values()), np.int8))
        labels = np.stack(columns, axis=1)
        return [
            Listed(f"{self.home}/JPEGImages/{image}.jpg", label, where)
            for (image, where), label in zip(names.items(), labels, strict=True)
        ]
