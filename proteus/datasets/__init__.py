"""Proxy sets, how their images are drawn, transformed and batched."""

from proteus.datasets.collate import distill_collate
from proteus.datasets.folder import ImageFolder
from proteus.datasets.packaged_set import PackagedPhotographs
from proteus.datasets.proxy_set import ProxySet
from proteus.datasets.randomness import SampleKey, seeded
from proteus.datasets.sampler import ProxySampler
from proteus.datasets.transforms import (
    BlockMask,
    CenterCrop,
    CorruptImageError,
    LoadImage,
    PackInputs,
    RandAugment,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
    UniformMask,
)

__all__ = [
    "BlockMask",
    "CenterCrop",
    "CorruptImageError",
    "ImageFolder",
    "LoadImage",
    "PackInputs",
    "PackagedPhotographs",
    "ProxySampler",
    "ProxySet",
    "RandAugment",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "Resize",
    "SampleKey",
    "ToTensor",
    "UniformMask",
    "distill_collate",
    "seeded",
]
