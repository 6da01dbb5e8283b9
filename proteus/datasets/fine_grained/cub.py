"""CUB-200-2011 data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class CUB(FineGrainedSet):
    """Caltech-UCSD Birds-200-2011 (Wah et al., 2011).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "CUB-200-2011"
    num_classes = 200
    sizes = (5994, None, 5794)
    folder = "CUB_200_2011"
    nested = ("CUB_200_2011",)
    markers = ("images.txt",)
    layout = """
images.txt, image_class_labels.txt, train_test_split.txt
images/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg ..."""
    source = "CUB_200_2011.tgz"

    def list_part(self, part: Part) -> list[Listed]:
        """Join the three lists by image number."""
        labels = self._column("image_class_labels.txt")
        trains = self._column("train_test_split.txt")
        listed = []
        for where, (number, name) in read_rows(self.file("images.txt"), 2):
            if number not in labels or number not in trains:
                lacks = "image_class_labels.txt" if number not in labels else "train_test_split.txt"
                raise ValueError(f"{where}: image {number} is not in {lacks}")
            split_where, train = trains[number]
            if train not in ("0", "1"):
                raise ValueError(f"{split_where}: {train!r} is neither 0 (test) nor 1 (train)")
            label_where, label = labels[number]
            if (train == "1") == (part == "train"):
                listed.append(Listed(f"{self.home}/images/{name}", self.numbered(label, 1, label_where), where))
        return listed

    def _column(self, name: str) -> dict[str, tuple[str, str]]:
        return {number: (where, value) for where, (number, value) in read_rows(self.file(name), 2)}
