"""A loss, a head and an objective: everything that a new distillation term needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models import Objective, StepFeatures
from proteus.registry import MODELS


@MODELS.register_module()
class LogCoshLoss(nn.Module):
    """Mean of ``log(cosh(scale * d))`` over all differences ``d``: quadratic for small ones, linear for large ones.

    Args:
        scale: Factor for the differences. Larger values move the linear part closer to 0.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of the same shape; return a scalar."""
        difference = self.scale * (prediction - target)
        # log(cosh(d)) = |d| + log(1 + exp(-2 |d|)) - log(2), which does not overflow.
        magnitude = difference.abs()
        return (magnitude + F.softplus(-2 * magnitude) - math.log(2)).mean()


@MODELS.register_module()
class NoHead(nn.Identity):
    """Identity head, for objectives that need no projection from the student's width to the teacher's."""


@MODELS.register_module()
class RelationObjective(Objective):
    """Match the cosine similarities between the patches of an image.

    ``S_ij = <p_i, p_j> / (|p_i| |p_j|)`` over the ``N`` patches of an image; the loss compares the student's ``(N, N)``
    matrix with the teacher's. The matrices do not depend on the widths, so no head is trained.

    Args:
        student_dim: Width of the student's tokens; filled in by the distiller.
        teacher_dim: Width of the teacher's tokens; filled in by the distiller.
        loss: Config of the loss between the matrices, by default ``LogCoshLoss``.
        **objective: Arguments of ``Objective`` other than ``head``, such as ``weight``.
    """

    def __init__(
        self, student_dim: int, teacher_dim: int, loss: dict[str, Any] | None = None, **objective: Any
    ) -> None:
        loss = loss or {"type": "LogCoshLoss"}
        super().__init__(student_dim, teacher_dim, head={"type": "NoHead"}, loss=loss, **objective)

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss between the ``(B, N, N)`` similarities of student and teacher, a scalar."""
        return self.loss(patch_similarities(step.student.patches), patch_similarities(step.teacher.patches))


def patch_similarities(patches: Tensor) -> Tensor:
    """Return the cosine similarities ``(B, N, N)`` between the patches ``(B, N, D)`` of each image, in float32."""
    unit_vectors = F.normalize(patches.float(), dim=-1)
    return unit_vectors @ unit_vectors.mT
