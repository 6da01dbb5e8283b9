"""Objectives on class scores: what the paper removes (section 2.1), for its comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number, check_whole


class _ClassObjective(Objective):
    """An objective with a head that classifies the student's cls token."""

    needs_equal_grids = False

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_classes: int = 1000,
        head: dict[str, Any] | None = None,
        **objective: Any,
    ) -> None:
        check_whole("num_classes", num_classes)
        super().__init__(student_dim, num_classes, head=head or {"type": "ClassHead"}, **objective)
        self.num_classes: int = num_classes

    def predict(self, student: Features) -> dict[str, Tensor]:
        """Return ``logits`` ``(B, K)``."""
        return {"logits": self.head(student.cls)}


@MODELS.register_module()
class LabelObjective(_ClassObjective):
    """The student's classifier learns the labels, and ignores the teacher (paper, eq. 1).

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Not used; the distiller fills it in.
        num_classes: Number of classes.
        loss: Config of the loss, by default ``CrossEntropyLoss``.
        **objective: As for :class:`Objective`; ``head`` is by default a ``ClassHead``.
    """

    needs_teacher = False
    needs_labels = True

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_classes: int = 1000,
        loss: dict[str, Any] | None = None,
        **objective: Any,
    ) -> None:
        loss = loss or {"type": "CrossEntropyLoss"}
        super().__init__(student_dim, teacher_dim, num_classes, loss=loss, **objective)

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, K)``."""
        return self.loss(self.head(step.student.cls).float(), step.require_labels())


@MODELS.register_module()
class LogitsObjective(_ClassObjective):
    """The student's classifier learns the scores of the teacher's, and the labels if asked to (paper, eq. 3).

    The term is ``alpha * loss(student, teacher) + (1 - alpha) * label_loss(student, labels)``, both of one
    classifier on the student's cls token.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Not used; the distiller fills it in.
        num_classes: Number of classes, as the teacher's classifier has.
        alpha: Share of the teacher, lambda in the paper's eq. 3; below 1 the data set must have labels.
        loss: Config of the loss against the teacher's logits, by default ``SoftLogitsLoss``.
        label_loss: Config of the loss against the labels, by default ``CrossEntropyLoss``.
        **objective: As for :class:`Objective`; ``head`` is by default a ``ClassHead``.

    Raises:
        ValueError: ``alpha`` is not above 0 and at most 1, or there is a ``label_loss`` without a share.
    """

    needs_logits = True

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_classes: int = 1000,
        alpha: float = 1.0,
        loss: dict[str, Any] | None = None,
        label_loss: dict[str, Any] | None = None,
        **objective: Any,
    ) -> None:
        if not 0 < check_number("alpha", alpha) <= 1:
            raise ValueError(
                f"LogitsObjective.alpha={alpha}: write the teacher's share, above 0 and at most 1; labels alone are "
                "dict(type='LabelObjective')"
            )
        if alpha == 1 and label_loss is not None:
            raise ValueError("LogitsObjective.label_loss counts for nothing at alpha=1.0: write alpha=0.5, or leave it")
        loss = loss or {"type": "SoftLogitsLoss"}
        super().__init__(student_dim, teacher_dim, num_classes, loss=loss, **objective)
        self.alpha = alpha
        self.needs_labels = alpha < 1
        self.label_loss = MODELS.build(label_loss or {"type": "CrossEntropyLoss"}) if self.needs_labels else None

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, K)``."""
        if step.teacher_logits is None:
            raise ValueError("the logits objective needs a teacher that classifies: set model.teacher.classifier")
        student = self.head(step.student.cls).float()
        term = self.loss(student, step.teacher_logits.float())
        if self.label_loss is None:
            return term
        return self.alpha * term + (1 - self.alpha) * self.label_loss(student, step.require_labels())
