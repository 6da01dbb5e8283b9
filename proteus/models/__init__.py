"""Backbones, teachers, heads, losses, objectives, the distiller that owns them, and classifiers."""

from proteus.models.backbones import (
    AdaptedBackbone,
    DenseTimm,
    DenseViT,
    ReleasedDenseViT,
    TimmBackbone,
    ViT,
    build_backbone,
)
from proteus.models.classifiers import ClassifierDataPreprocessor, LinearProbe, ProbeDataPreprocessor
from proteus.models.depth import (
    DepthDataPreprocessor,
    DepthEstimator,
    DepthFlipTTA,
    DPTDepthHead,
    GradientLoss,
    SigLoss,
    SiLogLoss,
)
from proteus.models.distillers import DistillDataPreprocessor, Distiller, MixupDataPreprocessor, SeveralStudents
from proteus.models.ema import ForeachEMA
from proteus.models.heads import ClassHead, DistillHead, LinearClassifier
from proteus.models.initialization import WeightSelection
from proteus.models.losses import CosineLoss, CrossEntropyLoss, HardLogitsLoss, MSELoss, SmoothL1Loss, SoftLogitsLoss
from proteus.models.necks import TokenPooling
from proteus.models.objectives import (
    FeatureObjective,
    LabelObjective,
    LogitsObjective,
    Objective,
    PatchObjective,
    TokenObjective,
    Views,
)
from proteus.models.teachers import NoTeacher, Teacher

__all__ = [
    "AdaptedBackbone",
    "ClassHead",
    "ClassifierDataPreprocessor",
    "CosineLoss",
    "CrossEntropyLoss",
    "DPTDepthHead",
    "DenseTimm",
    "DenseViT",
    "DepthDataPreprocessor",
    "DepthEstimator",
    "DepthFlipTTA",
    "DistillDataPreprocessor",
    "DistillHead",
    "Distiller",
    "FeatureObjective",
    "ForeachEMA",
    "GradientLoss",
    "HardLogitsLoss",
    "LabelObjective",
    "LinearClassifier",
    "LinearProbe",
    "LogitsObjective",
    "MSELoss",
    "MixupDataPreprocessor",
    "NoTeacher",
    "Objective",
    "PatchObjective",
    "ProbeDataPreprocessor",
    "ReleasedDenseViT",
    "SeveralStudents",
    "SiLogLoss",
    "SigLoss",
    "SmoothL1Loss",
    "SoftLogitsLoss",
    "Teacher",
    "TimmBackbone",
    "TokenObjective",
    "TokenPooling",
    "ViT",
    "Views",
    "WeightSelection",
    "build_backbone",
]
