"""Losses between a prediction and the teacher's tokens.

Each is a mean over tokens, so that an objective may join the losses of two groups of tokens by weighting them
with the groups' sizes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number


@MODELS.register_module()
class MSELoss(nn.Module):
    """Mean squared error over every element, where the paper (eq. 5 to 7) has a norm (docs/reproduction.md#losses)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two ``(..., D)`` tensors; returns a scalar."""
        return F.mse_loss(prediction, target)


@MODELS.register_module()
class SmoothL1Loss(nn.Module):
    """Huber loss over every element: squared below ``beta``, absolute above.

    Args:
        beta: Where the two meet, in units of the teacher's features.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = check_number("beta", beta, 0)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two ``(..., D)`` tensors; returns a scalar."""
        return F.smooth_l1_loss(prediction, target, beta=self.beta)


@MODELS.register_module()
class CosineLoss(nn.Module):
    """``1 - cos`` averaged over tokens: direction only, the teacher's norms are ignored."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two ``(..., D)`` tensors; returns a scalar in [0, 2]."""
        return 1 - F.cosine_similarity(prediction, target, dim=-1).mean()
