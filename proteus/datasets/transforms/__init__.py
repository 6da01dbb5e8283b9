"""Transforms from a path to a packed sample; each takes and returns a dict."""

from proteus.datasets.transforms.augment import CenterCrop, RandomFlip, RandomResizedCrop, ResizeEdge, ResizeSquare
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
from proteus.datasets.transforms.erasing import RandomErasing
from proteus.datasets.transforms.load_crop import LoadRandomResizedCrop
from proteus.datasets.transforms.loading import CorruptImageError, LoadImage
from proteus.datasets.transforms.masks import BlockMask, MaskTransform, UniformMask
from proteus.datasets.transforms.packing import PackInputs, ToTensor
from proteus.datasets.transforms.rand_augment import TimmRandAugment

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
    "LoadRandomResizedCrop",
    "MaskTransform",
    "NYUCrop",
    "PackDepth",
    "PackInputs",
    "RandomBrightnessContrast",
    "RandomErasing",
    "RandomFlip",
    "RandomGamma",
    "RandomResizedCrop",
    "ResizeEdge",
    "ResizeImage",
    "ResizeSquare",
    "TimmRandAugment",
    "ToTensor",
    "UniformMask",
]
