"""Feature-level objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures, build_head
from proteus.registry import MODELS


@MODELS.register_module()
class FeatureObjective(Objective):
    """All tokens of the clean image, mapped, equal the teacher's (paper, eq. 6).

    The loss is a mean over the ``1 + N`` tokens. In the released code the cls token among them passes through the
    *token* objective's head, so that its part is that objective's term (docs/reproduction.md#losses); ``cls_term``
    names it and nothing is computed twice.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        cls_term: Name of the objective whose term is the cls part; by default this objective maps the cls
            token through a second head of its own.
        **objective: As for :class:`Objective`.
    """

    def __init__(self, student_dim: int, teacher_dim: int, cls_term: str | None = None, **objective: Any) -> None:
        super().__init__(student_dim, teacher_dim, **objective)
        self.cls_term = cls_term
        self.cls_head = None if cls_term else build_head(objective.get("head"), student_dim, teacher_dim)

    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, 1 + N, Dt)``."""
        patches = self.compare(self.head, views.student.patches, views.teacher.patches)
        if self.cls_head is None:
            cls = terms[str(self.cls_term)]
        else:
            cls = self.compare(self.cls_head, views.student.cls, views.teacher.cls)
        count = views.teacher.patches.shape[1]
        return (cls + count * patches) / (1 + count)

    @property
    def mapped(self) -> dict[str, nn.Module]:
        """One head maps the patches, and another the cls token where no other objective's does."""
        return {"patches": self.head} if self.cls_head is None else {"cls": self.cls_head, "patches": self.head}
