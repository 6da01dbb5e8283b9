"""Tensor, tensor -> scalar."""

from proteus.models.losses.regression import CosineLoss, MSELoss, SmoothL1Loss

__all__ = ["CosineLoss", "MSELoss", "SmoothL1Loss"]
