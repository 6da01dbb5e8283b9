"""Sets that show how robust a classifier of ImageNet-1K's classes is (docs/reproduction.md#robustness)."""

from proteus.datasets.robustness.generation import generate
from proteus.datasets.robustness.imagenet_c import GeneratedImageNetC, ImageNetC
from proteus.datasets.robustness.imagenet_variants import VARIANTS, ImageNetVariant
from proteus.datasets.robustness.wnids import IMAGENET_SUBSETS, imagenet_wnids, subset_classes, wnid_numbers

__all__ = [
    "IMAGENET_SUBSETS",
    "VARIANTS",
    "GeneratedImageNetC",
    "ImageNetC",
    "ImageNetVariant",
    "generate",
    "imagenet_wnids",
    "subset_classes",
    "wnid_numbers",
]
