"""SUN397 data set."""

from __future__ import annotations

from pathlib import Path

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class SUN397(FineGrainedSet):
    """SUN397, the first of its ten splits: 50 training and 50 test images of each class (Xiao et al., 2010).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "SUN397"
    num_classes = 397
    sizes = (19_850, None, 19_850)
    folder = "SUN397"
    nested = ("SUN397",)
    markers = ("ClassName.txt", "Partitions/ClassName.txt")
    layout = """
ClassName.txt, Training_01.txt, Testing_01.txt (here or in Partitions)
a/abbey/sun_aaalbzqrimafwbiv.jpg ..."""
    source = "SUN397.tar.gz with Partitions.zip"

    def list_part(self, part: Part) -> list[Listed]:
        """Read the image paths; their folders are the class names."""
        path = self._partition("ClassName.txt")
        classes = self.classes_of([row.fields[0].rstrip("/") for row in read_rows(path, 1)], path)
        path = self._partition("Training_01.txt" if part == "train" else "Testing_01.txt")
        return [
            Listed(f"{self.home}{name}", self.named(name.rpartition("/")[0], classes, where), where)
            for where, (name,) in read_rows(path, 1)
        ]

    def _partition(self, name: str) -> Path:
        return self.file(name, f"Partitions/{name}")
