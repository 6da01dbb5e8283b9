"""Backbones, teachers, heads, losses, objectives and the distiller that owns them."""

from proteus.models.backbones import DenseViT, ViT
from proteus.models.distillers import DistillDataPreprocessor, Distiller
from proteus.models.heads import DistillHead
from proteus.models.losses import CosineLoss, MSELoss, SmoothL1Loss
from proteus.models.objectives import FeatureObjective, Objective, PatchObjective, TokenObjective, Views
from proteus.models.teachers import Teacher

__all__ = [
    "CosineLoss",
    "DenseViT",
    "DistillDataPreprocessor",
    "DistillHead",
    "Distiller",
    "FeatureObjective",
    "MSELoss",
    "Objective",
    "PatchObjective",
    "SmoothL1Loss",
    "Teacher",
    "TokenObjective",
    "ViT",
    "Views",
]
