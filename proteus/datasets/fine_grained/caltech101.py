"""Caltech-101 data set."""

from __future__ import annotations

import numpy as np

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, class_folders
from proteus.registry import DATASETS

_TRAIN_PER_CLASS = 30


@DATASETS.register_module()
class Caltech101(FineGrainedSet):
    """Caltech-101 with its background class (Fei-Fei et al., 2004).

    The set has no official split. As in the released code, 30 images of each class are drawn for training *with
    replacement* (seed 0, class by class in alphabetical order, each draw sorted). An image may therefore occur twice,
    also once in train and once in val. Test has all images that were never drawn.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Caltech-101"
    num_classes = 102
    metric = "mean_per_class"
    sizes = (102 * _TRAIN_PER_CLASS, None, None)
    folder = "caltech101"
    other_folders = ("caltech-101",)
    nested = ("caltech101", "caltech-101")
    markers = ("101_ObjectCategories",)
    layout = """
101_ObjectCategories/BACKGROUND_Google/image_0001.jpg ...
101_ObjectCategories/accordion/image_0001.jpg ... (102 folders in all)"""
    source = "101_ObjectCategories.tar.gz in caltech-101.zip"

    def list_part(self, part: Part) -> list[Listed]:
        """Draw the training images, or list the remaining ones."""
        root = self.file("101_ObjectCategories")
        folders = class_folders(root)
        classes = self.classes_of(list(folders), root)
        images = [
            Listed(f"{root}/{name}/{image}", classes[name], str(root / name))
            for name, members in folders.items()
            for image in members
        ]
        labels = np.array([image.label for image in images])
        generator = np.random.RandomState(0)
        drawn = [
            np.sort(generator.choice(np.flatnonzero(labels == label), _TRAIN_PER_CLASS)) for label in classes.values()
        ]
        train = np.concatenate(drawn) if drawn else np.zeros(0, int)
        chosen = train if part == "train" else np.setdiff1d(np.arange(len(images)), train)
        return [images[position] for position in chosen]
