"""FGVC-Aircraft data set."""

from __future__ import annotations

from proteus.datasets.fine_grained.base import FineGrainedSet, Part
from proteus.datasets.fine_grained.listing import Listed, read_rows
from proteus.registry import DATASETS


@DATASETS.register_module()
class FGVCAircraft(FineGrainedSet):
    """FGVC-Aircraft with its 100 variants (Maji et al., 2013).

    Args:
        **fine_grained: As for :class:`FineGrainedSet`.
    """

    title = "FGVC-Aircraft"
    num_classes = 100
    metric = "mean_per_class"
    has_val = True
    sizes = (3334, 3333, 3333)
    folder = "fgvc-aircraft-2013b"
    nested = ("fgvc-aircraft-2013b",)
    markers = ("data/variants.txt",)
    layout = """
data/variants.txt
data/images_variant_train.txt, images_variant_val.txt, images_variant_test.txt
data/images/0034309.jpg ..."""
    source = "fgvc-aircraft-2013b.tar.gz"

    def list_part(self, part: Part) -> list[Listed]:
        """Read ``images_variant_<part>.txt``, with an image and its variant on each line."""
        variants = self.file("data/variants.txt")
        classes = self.classes_of([row.fields[0] for row in read_rows(variants, 1)], variants)
        return [
            Listed(f"{self.home}/data/images/{image}.jpg", self.named(variant, classes, where), where)
            for where, (image, variant) in read_rows(self.file(f"data/images_variant_{part}.txt"), 2)
        ]
