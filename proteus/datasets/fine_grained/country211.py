"""Country211 data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, class_folders
from proteus.registry import DATASETS


@DATASETS.register_module()
class Country211(FineGrainedSet):
    """Country211: photographs labelled by country (Radford et al., 2021).

    Classes are numbered by the folders of ``train``: a class missing from ``valid`` or ``test`` shifts no labels.

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Country211"
    num_classes = 211
    has_val = True
    sizes = (31_650, 10_550, 21_100)
    folder = "country211"
    nested = ("country211",)
    markers = ("train",)
    layout = """
train/AD/....jpg ... (211 folders)
valid/AD/....jpg ...
test/AD/....jpg ..."""
    source = "country211.tgz"

    def list_part(self, part: Part) -> list[Listed]:
        """List the images in the class folders."""
        train = self.file("train")
        folders = class_folders(train)
        classes = self.classes_of(list(folders), train)
        root = self.file("valid" if part == "val" else part)
        listed = []
        for name, images in (folders if part == "train" else class_folders(root)).items():
            label = self.named(name, classes, str(root))
            listed += [Listed(f"{root}/{name}/{image}", label, str(root / name)) for image in images]
        return listed
