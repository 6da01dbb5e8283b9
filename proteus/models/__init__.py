"""Backbones, teachers, heads, losses, objectives, the distiller that owns them, and classifiers."""

from proteus.models.backbones import (
    AdaptedBackbone,
    DenseTimm,
    DenseViT,
    MappedBackbone,
    RelPosDenseViT,
    TimmBackbone,
    ViT,
    build_backbone,
)
from proteus.models.classifiers import LinearProbe, MMPretrainDataPreprocessor, ProbeDataPreprocessor
from proteus.models.depth import (
    DepthDataPreprocessor,
    DepthEstimator,
    DepthFlipTTA,
    DPTDepthHead,
    GradientLoss,
    LinearDepthHead,
    SigLoss,
    SiLogLoss,
)
from proteus.models.distillers import DistillDataPreprocessor, Distiller, MixupDataPreprocessor, MultiStudentDistiller
from proteus.models.ema import ForeachEMA
from proteus.models.heads import ClassHead, DistillHead, LinearClassifier
from proteus.models.initialization import WeightSelection
from proteus.models.losses import (
    BalancedLoss,
    CosineLoss,
    CrossEntropyLoss,
    HardLogitsLoss,
    MSELoss,
    RelationKLLoss,
    SmoothL1Loss,
    SoftLogitsLoss,
    StandardizedMSELoss,
)
from proteus.models.necks import TokenPooling
from proteus.models.objectives import (
    FeatureObjective,
    LabelObjective,
    LogitsObjective,
    Objective,
    PatchObjective,
    PatchRelationObjective,
    StepFeatures,
    TokenObjective,
    TokenRelationObjective,
)
from proteus.models.teachers import NoTeacher, Teacher

__all__ = [
    "AdaptedBackbone",
    "BalancedLoss",
    "ClassHead",
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
    "LinearDepthHead",
    "LinearProbe",
    "LogitsObjective",
    "MMPretrainDataPreprocessor",
    "MSELoss",
    "MappedBackbone",
    "MixupDataPreprocessor",
    "MultiStudentDistiller",
    "NoTeacher",
    "Objective",
    "PatchObjective",
    "PatchRelationObjective",
    "ProbeDataPreprocessor",
    "RelPosDenseViT",
    "RelationKLLoss",
    "SiLogLoss",
    "SigLoss",
    "SmoothL1Loss",
    "SoftLogitsLoss",
    "StandardizedMSELoss",
    "StepFeatures",
    "Teacher",
    "TimmBackbone",
    "TokenObjective",
    "TokenPooling",
    "TokenRelationObjective",
    "ViT",
    "WeightSelection",
    "build_backbone",
]
