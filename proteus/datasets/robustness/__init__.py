"""Data sets that test the robustness of ImageNet-1K classifiers (docs/reproduction.md#robustness)."""

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
