"""Losses between a prediction and a target."""

from proteus.models.losses.balanced import BalancedLoss
from proteus.models.losses.logits import CrossEntropyLoss, HardLogitsLoss, SoftLogitsLoss
from proteus.models.losses.regression import CosineLoss, MSELoss, SmoothL1Loss
from proteus.models.losses.relation import RelationKLLoss
from proteus.models.losses.standardized import StandardizedMSELoss

__all__ = [
    "BalancedLoss",
    "CosineLoss",
    "CrossEntropyLoss",
    "HardLogitsLoss",
    "MSELoss",
    "RelationKLLoss",
    "SmoothL1Loss",
    "SoftLogitsLoss",
    "StandardizedMSELoss",
]
