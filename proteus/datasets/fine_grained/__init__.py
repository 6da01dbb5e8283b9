"""Labelled sets of the fine-grained protocol (docs/reproduction.md#fine-grained-classification)."""

from proteus.datasets.fine_grained.aircraft import FGVCAircraft
from proteus.datasets.fine_grained.base import FineGrainedSet, validation_part
from proteus.datasets.fine_grained.caltech101 import Caltech101
from proteus.datasets.fine_grained.cars import StanfordCars
from proteus.datasets.fine_grained.cifar import CIFAR10, CIFAR100
from proteus.datasets.fine_grained.country211 import Country211
from proteus.datasets.fine_grained.cub import CUB
from proteus.datasets.fine_grained.dtd import DTD
from proteus.datasets.fine_grained.flowers102 import Flowers102
from proteus.datasets.fine_grained.folders import ClassFolders, ImageNet1K
from proteus.datasets.fine_grained.food101 import Food101
from proteus.datasets.fine_grained.gtsrb import GTSRB
from proteus.datasets.fine_grained.parquet import ParquetSet
from proteus.datasets.fine_grained.pets import OxfordIIITPet
from proteus.datasets.fine_grained.sun397 import SUN397
from proteus.datasets.fine_grained.voc2007 import VOC2007

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CUB",
    "DTD",
    "GTSRB",
    "SUN397",
    "VOC2007",
    "Caltech101",
    "ClassFolders",
    "Country211",
    "FGVCAircraft",
    "FineGrainedSet",
    "Flowers102",
    "Food101",
    "ImageNet1K",
    "OxfordIIITPet",
    "ParquetSet",
    "StanfordCars",
    "fine_grained_sets",
    "validation_part",
]


def fine_grained_sets() -> dict[str, type[FineGrainedSet]]:
    """Return the twelve sets over which the paper averages, in its order, followed by its two other sets."""
    return {
        "aircraft": FGVCAircraft,
        "caltech101": Caltech101,
        "cars": StanfordCars,
        "cifar10": CIFAR10,
        "cifar100": CIFAR100,
        "dtd": DTD,
        "flowers": Flowers102,
        "food101": Food101,
        "pets": OxfordIIITPet,
        "sun397": SUN397,
        "voc2007": VOC2007,
        "cub": CUB,
        "gtsrb": GTSRB,
        "country211": Country211,
    }
