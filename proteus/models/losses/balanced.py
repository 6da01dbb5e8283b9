"""Direction and values in one loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number


@MODELS.register_module()
class BalancedLoss(nn.Module):
    """Cosine loss and smooth L1 loss, weighted: the teacher's directions first, its norms a little.

    ``cosine * (1 - cos) + smooth_l1 * SmoothL1``. Source: AM-RADIO (Ranzinger et al., CVPR 2024, arXiv 2312.06709) for
    spatial features, with the default weights.

    Args:
        cosine: Weight of :class:`~proteus.models.losses.CosineLoss`.
        smooth_l1: Weight of :class:`~proteus.models.losses.SmoothL1Loss`.
        beta: Of the smooth L1 loss: squared below it, absolute above, in units of the teacher's features.

    Raises:
        ValueError: Both weights are 0.
    """

    def __init__(self, cosine: float = 0.9, smooth_l1: float = 0.1, beta: float = 1.0) -> None:
        super().__init__()
        self.cosine = check_number("cosine", cosine, 0)
        self.smooth_l1 = check_number("smooth_l1", smooth_l1, 0)
        self.beta = check_number("beta", beta, 0)
        if cosine == 0 and smooth_l1 == 0:
            raise ValueError("BalancedLoss: cosine and smooth_l1 are both 0: write cosine=0.9, smooth_l1=0.1")

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two ``(..., D)`` tensors; returns a scalar."""
        cosine = 1 - F.cosine_similarity(prediction, target, dim=-1).mean()
        return self.cosine * cosine + self.smooth_l1 * F.smooth_l1_loss(prediction, target, beta=self.beta)
