"""Describable Textures Dataset."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, class_folders, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class DTD(FineGrainedSet):
    """The Describable Textures Dataset, the first of its ten splits (Cimpoi et al., 2014).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "DTD"
    num_classes = 47
    has_val = True
    sizes = (1880, 1880, 1880)
    folder = "dtd"
    nested = ("dtd",)
    markers = ("labels/train1.txt",)
    layout = """
labels/train1.txt, val1.txt, test1.txt
images/banded/banded_0002.jpg ... (47 folders)"""
    source = "dtd-r1.0.1.tar.gz"

    def list_part(self, part: Part) -> list[Listed]:
        """Read ``<part>1.txt``; each line has a class folder and an image in it."""
        images = self.file("images")
        classes = self.classes_of(list(class_folders(images)), images)
        return [
            Listed(f"{images}/{name}", self.named(name.partition("/")[0], classes, where), where)
            for where, (name,) in read_rows(self.file(f"labels/{part}1.txt"), 1)
        ]
