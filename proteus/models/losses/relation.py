"""The loss between rows of similarities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number


@MODELS.register_module()
class RelationKLLoss(nn.Module):
    """Kullback-Leibler divergence between rows of similarities, as distributions over what each row is compared with.

    ``1 / R * sum_r sum_k p'_rk (log p'_rk - log p_rk)`` with ``p = softmax(s / T)``, student, and ``p' = softmax(s' /
    T')``, teacher: a mean over the ``R`` rows. Sources: SEED (Fang et al., ICLR 2021, arXiv 2101.04731) with two
    temperatures, and LightlyTrain's third distillation method with one of 0.07.

    Args:
        temperature: ``T``.
        teacher_temperature: ``T'``, by default ``T``. A smaller one sharpens the teacher's distributions.
    """

    def __init__(self, temperature: float = 0.07, teacher_temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, 0, above=True)
        if teacher_temperature is None:
            teacher_temperature = temperature
        self.teacher_temperature = check_number("teacher_temperature", teacher_temperature, 0, above=True)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare similarities of the student with the teacher's, ``(..., K)``; returns a scalar."""
        student = F.log_softmax(prediction / self.temperature, dim=-1)
        teacher = F.log_softmax(target / self.teacher_temperature, dim=-1)
        return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1).mean()
