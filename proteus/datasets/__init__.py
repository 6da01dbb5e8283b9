"""Proxy sets, how their images are drawn, transformed and batched."""

from proteus.datasets.collate import distill_collate
from proteus.datasets.folder import ImageFolder
from proteus.datasets.labelled_folder import LabelledFolder
from proteus.datasets.merge import Merge
from proteus.datasets.packaged_set import PackagedPhotographs
from proteus.datasets.proxy_set import ProxySet
from proteus.datasets.randomness import SampleKey, seeded
from proteus.datasets.sampler import ProxySampler
from proteus.datasets.single import Single
from proteus.datasets.subset import NamedImages
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
from proteus.datasets.web_shards import WebShards

__all__ = [
    "BlockMask",
    "CenterCrop",
    "CorruptImageError",
    "ImageFolder",
    "LabelledFolder",
    "LoadImage",
    "Merge",
    "NamedImages",
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
    "Single",
    "ToTensor",
    "UniformMask",
    "WebShards",
    "distill_collate",
    "seeded",
]
