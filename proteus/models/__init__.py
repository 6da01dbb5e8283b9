"""Backbones, teachers, heads, losses, objectives and the distiller that owns them."""

from proteus.models.backbones import AdaptedBackbone, DenseViT, TimmBackbone, ViT, build_backbone
from proteus.models.distillers import DistillDataPreprocessor, Distiller, MixupDataPreprocessor
from proteus.models.heads import ClassHead, DistillHead, LinearClassifier
from proteus.models.inheritance import WeightSelection
from proteus.models.losses import CosineLoss, CrossEntropyLoss, HardLogitsLoss, MSELoss, SmoothL1Loss, SoftLogitsLoss
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
    "CosineLoss",
    "CrossEntropyLoss",
    "DenseViT",
    "DistillDataPreprocessor",
    "DistillHead",
    "Distiller",
    "FeatureObjective",
    "HardLogitsLoss",
    "LabelObjective",
    "LinearClassifier",
    "LogitsObjective",
    "MSELoss",
    "MixupDataPreprocessor",
    "NoTeacher",
    "Objective",
    "PatchObjective",
    "SmoothL1Loss",
    "SoftLogitsLoss",
    "Teacher",
    "TimmBackbone",
    "TokenObjective",
    "ViT",
    "Views",
    "WeightSelection",
    "build_backbone",
]
