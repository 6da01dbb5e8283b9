"""Similarities between the patches of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.models.objectives.similarities import check_relation_loss, similarities, unit_vectors
from proteus.registry import MODELS


@MODELS.register_module()
class PatchRelationObjective(Objective):
    """Match the cosine similarities between the patches of each clean image (Gram matrix).

    ``S_ij = cos(p_i, p_j)`` over the ``N`` patches of an image, of the student and of the teacher. With ``MSELoss`` the
    term is the mean of ``(S_ij - S'_ij)^2``: Gram anchoring (DINOv3, Simeoni et al. 2025, arXiv 2508.10104), with the
    teacher in place of an earlier student. With ``RelationKLLoss`` it is the divergence between the rows: the local
    loss of LightlyTrain's third distillation method.

    The matrices have no channels, so the widths may differ, and nothing but the geometry is learnt: a rotation of all
    tokens changes no term. Use it in addition to an objective on tokens.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        head: Config of a head through which the student's patches pass first; by default they do not.
        negatives: Whether similarities below 0 count. If not, they are set to 0 on both sides, as released with DINOv3.
        **objective: As for :class:`Objective`; ``loss`` is by default ``MSELoss``.

    Raises:
        ValueError: The loss standardises each feature channel.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        head: dict[str, Any] | None = None,
        negatives: bool = True,
        **objective: Any,
    ) -> None:
        super().__init__(student_dim, teacher_dim, head=head or {"type": nn.Identity}, **objective)
        check_relation_loss(self, self.loss)
        self.negatives = negatives

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss between similarities ``(B, N, N)``."""
        student, teacher = (unit_vectors(tokens) for tokens in (self.head(step.student.patches), step.teacher.patches))
        prediction, target = similarities(student, student), similarities(teacher, teacher)
        if not self.negatives:
            prediction, target = prediction.clamp(min=0), target.clamp(min=0)
        return self.loss(prediction, target)
