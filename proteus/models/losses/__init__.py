"""Tensor, tensor -> scalar."""

from proteus.models.losses.logits import CrossEntropyLoss, HardLogitsLoss, SoftLogitsLoss
from proteus.models.losses.regression import CosineLoss, MSELoss, SmoothL1Loss

__all__ = ["CosineLoss", "CrossEntropyLoss", "HardLogitsLoss", "MSELoss", "SmoothL1Loss", "SoftLogitsLoss"]
