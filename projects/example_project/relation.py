"""A loss, a head and an objective: all that a new term of the distillation needs."""

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
    """``log(cosh(d))`` of differences ``d``, averaged: half the square of small ones, the size of large ones.

    Args:
        scale: What the differences are multiplied by first; the larger, the sooner they count by their size.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of one shape; returns a scalar."""
        difference = self.scale * (prediction - target)
        # log(cosh(d)) = |d| + log(1 + exp(-2 |d|)) - log(2), which does not overflow.
        size = difference.abs()
        return (size + F.softplus(-2 * size) - math.log(2)).mean()


@MODELS.register_module()
class NoHead(nn.Identity):
    """A head for objectives that compare what has no width: student and teacher need not be mapped to one another."""


@MODELS.register_module()
class RelationObjective(Objective):
    """What is alike in an image to the teacher is alike to the student.

    The patches of an image are compared with one another by cosine, ``S_ij = <p_i, p_j> / (|p_i| |p_j|)``, and the
    student's ``(N, N)`` table of an image with the teacher's. Widths cancel, so nothing is mapped and nothing is added
    to the student.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        loss: Config of the loss between the tables, by default ``LogCoshLoss``.
        **objective: As for ``Objective``, but for ``head``.
    """

    def __init__(
        self, student_dim: int, teacher_dim: int, loss: dict[str, Any] | None = None, **objective: Any
    ) -> None:
        loss = loss or {"type": "LogCoshLoss"}
        super().__init__(student_dim, teacher_dim, head={"type": "NoHead"}, loss=loss, **objective)

    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, N, N)``."""
        return self.loss(relations(views.student.patches), relations(views.teacher.patches))


def relations(patches: Tensor) -> Tensor:
    """The cosines ``(B, N, N)`` between the patches ``(B, N, D)`` of each image, in float32."""
    directions = F.normalize(patches.float(), dim=-1)
    return directions @ directions.mT
