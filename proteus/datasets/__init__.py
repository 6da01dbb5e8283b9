"""Proxy sets, how their images are drawn, transformed and batched."""

from proteus.datasets.collate import distill_collate
from proteus.datasets.feature_table import FeatureTable, table_collate
from proteus.datasets.fine_grained import (
    CIFAR10,
    CIFAR100,
    CUB,
    DTD,
    GTSRB,
    SUN397,
    VOC2007,
    Aircraft,
    Caltech101,
    Cars,
    Country211,
    FineGrainedSet,
    Flowers102,
    Food101,
    ParquetSet,
    Pets,
    fine_grained_sets,
)
from proteus.datasets.folder import ImageFolder
from proteus.datasets.labelled_folder import LabelledFolder
from proteus.datasets.merge import Merge
from proteus.datasets.packaged_set import PackagedPhotographs
from proteus.datasets.proxy_set import ProxySet
from proteus.datasets.randomness import SampleKey, seeded
from proteus.datasets.robustness import GeneratedImageNetC, ImageNetC, WnidFolder
from proteus.datasets.sampler import ProxySampler
from proteus.datasets.single import Single
from proteus.datasets.subset import NamedImages
from proteus.datasets.transforms import (
    BlockMask,
    CenterCrop,
    Corrupt,
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
    "CIFAR10",
    "CIFAR100",
    "CUB",
    "DTD",
    "GTSRB",
    "SUN397",
    "VOC2007",
    "Aircraft",
    "BlockMask",
    "Caltech101",
    "Cars",
    "CenterCrop",
    "Corrupt",
    "CorruptImageError",
    "Country211",
    "FeatureTable",
    "FineGrainedSet",
    "Flowers102",
    "Food101",
    "GeneratedImageNetC",
    "ImageFolder",
    "ImageNetC",
    "LabelledFolder",
    "LoadImage",
    "Merge",
    "NamedImages",
    "PackInputs",
    "PackagedPhotographs",
    "ParquetSet",
    "Pets",
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
    "WnidFolder",
    "distill_collate",
    "fine_grained_sets",
    "seeded",
    "table_collate",
]
