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
from proteus.datasets.transforms.depth_colour import (
    ColorAug,
    CutDepth,
    HueSaturationValue,
    RandomBrightnessContrast,
    RandomGamma,
)
from proteus.datasets.transforms.depth_geometry import (
    DepthPad,
    DepthRandomCrop,
    DepthRandomFlip,
    DepthRandomResize,
    DepthRandomRotate,
    NYUCrop,
    ResizeImage,
)
from proteus.datasets.transforms.depth_loading import LoadDepth, PackDepth
from proteus.datasets.transforms.loading import CorruptImageError, LoadImage
from proteus.datasets.transforms.masks import BlockMask, UniformMask
from proteus.datasets.transforms.packing import PackInputs, ToTensor

__all__ = [
    "BlockMask",
    "CenterCrop",
    "ColorAug",
    "Corrupt",
    "CorruptImageError",
    "CutDepth",
    "DepthPad",
    "DepthRandomCrop",
    "DepthRandomFlip",
    "DepthRandomResize",
    "DepthRandomRotate",
    "HueSaturationValue",
    "LoadDepth",
    "LoadImage",
    "NYUCrop",
    "PackDepth",
    "PackInputs",
    "RandAugment",
    "RandomBrightnessContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomGamma",
    "RandomResizedCrop",
    "Resize",
    "ResizeImage",
    "ToTensor",
    "UniformMask",
]
