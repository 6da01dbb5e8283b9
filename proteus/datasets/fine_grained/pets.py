"""Oxford-IIIT Pets data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class OxfordIIITPet(FineGrainedSet):
    """Oxford-IIIT Pets with its 37 breeds (Parkhi et al., 2012).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "Oxford-IIIT Pets"
    num_classes = 37
    metric = "mean_per_class"
    sizes = (3680, None, 3669)
    folder = "oxford-iiit-pet"
    nested = ("oxford-iiit-pet",)
    markers = ("annotations/trainval.txt", "annotations/test.txt")
    layout = """
annotations/trainval.txt, test.txt
images/Abyssinian_1.jpg ..."""
    source = "images.tar.gz and annotations.tar.gz"

    def list_part(self, part: Part) -> list[Listed]:
        """Read the list; a line has an image, its breed from 1, its species and the breed within the species."""
        path = self.file(f"annotations/{'trainval' if part == 'train' else part}.txt")
        return [
            Listed(f"{self.home}/images/{image}.jpg", self.numbered(breed, 1, where), where)
            for where, (image, breed, _, _) in read_rows(path, 4)
        ]
