"""Oxford Flowers data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_mat
from proteus.registry import DATASETS

_SPLITS: dict[Part, str] = {"train": "trnid", "val": "valid", "test": "tstid"}


@DATASETS.register_module()
class Flowers102(FineGrainedSet):
    """Oxford Flowers with 102 categories (Nilsback and Zisserman, 2008).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Oxford Flowers"
    num_classes = 102
    metric = "mean_per_class"
    has_val = True
    sizes = (1020, 1020, 6149)
    folder = "flowers-102"
    nested = ("flowers-102",)
    markers = ("setid.mat", "imagelabels.mat")
    layout = """
imagelabels.mat
setid.mat
jpg/image_00001.jpg ..."""
    source = "102flowers.tgz with imagelabels.mat and setid.mat"

    def list_part(self, part: Part) -> list[Listed]:
        """Read image numbers from ``setid.mat`` and their classes from ``imagelabels.mat``; both count from 1."""
        path, variable = self.file("setid.mat"), _SPLITS[part]
        (numbers,) = read_mat(path, [variable])
        (labels,) = read_mat(self.file("imagelabels.mat"), ["labels"])
        listed = []
        for number in map(int, numbers):
            where = f"{path}, {variable}"
            if not 1 <= number <= len(labels):
                raise ValueError(f"{where}: image {number}, but imagelabels.mat has {len(labels)} images")
            label = self.numbered(int(labels[number - 1]), 1, f"{self.home}/imagelabels.mat, image {number}")
            listed.append(Listed(f"{self.home}/jpg/image_{number:05}.jpg", label, where))
        return listed
