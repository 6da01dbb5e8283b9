"""From a path to a packed sample, one dict in and one dict out at each step."""

from proteus.datasets.transforms.augment import (
    CenterCrop,
    RandAugment,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)
from proteus.datasets.transforms.corruption import Corrupt
from proteus.datasets.transforms.loading import CorruptImageError, LoadImage
from proteus.datasets.transforms.masks import BlockMask, UniformMask
from proteus.datasets.transforms.packing import PackInputs, ToTensor

__all__ = [
    "BlockMask",
    "CenterCrop",
    "Corrupt",
    "CorruptImageError",
    "LoadImage",
    "PackInputs",
    "RandAugment",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "Resize",
    "ToTensor",
    "UniformMask",
]
