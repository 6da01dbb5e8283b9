"""Losses between class scores."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number


@MODELS.register_module()
class SoftLogitsLoss(nn.Module):
    """Kullback-Leibler divergence between softened class distributions (paper, eq. 2), exactly as in DeiT.

    ``T^2 / (B K) * sum p' (log p' - log p)``: DeiT divides by the number of classes ``K`` as well as that of images, so
    this is a thousandth of the usual mean over images on ImageNet-1K.

    Args:
        temperature: ``T``, by which both sides' logits are divided.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 0, above=True)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare the student's logits ``(B, K)`` with the teacher's; returns a scalar."""
        student = F.log_softmax(prediction / self.temperature, dim=1)
        teacher = F.log_softmax(target / self.temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
        return divergence * self.temperature**2 / prediction.numel()


@MODELS.register_module()
class HardLogitsLoss(nn.Module):
    """Cross-entropy with the class that the teacher scores highest (DeiT's hard distillation)."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare the student's logits ``(B, K)`` with the teacher's; returns a scalar."""
        return F.cross_entropy(prediction, target.argmax(dim=1))


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Cross-entropy with labels (paper, eq. 1).

    Args:
        label_smoothing: Share of each label that is spread evenly over all classes.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare logits ``(B, K)`` with classes ``(B,)`` int64, or shares of classes ``(B, K)``; returns a scalar."""
        return F.cross_entropy(prediction, target, label_smoothing=self.label_smoothing)
