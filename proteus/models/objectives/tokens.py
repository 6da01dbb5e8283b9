"""The paper's objectives on tokens of the clean image: the cls token, and all tokens (section 3.2, eq. 4 to 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures, build_head, build_loss
from proteus.registry import MODELS


@MODELS.register_module()
class TokenObjective(Objective):
    """Match the cls token of the clean image, mapped by the head, to the teacher's (paper, eq. 4 and 5)."""

    needs_equal_grids = False

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, Dt)``."""
        return self.compare(self.head, step.student.cls, step.teacher.cls)

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the cls token."""
        return {"cls": self.head}

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]]:
        """Return the pair of cls tokens, ``(B, Dt)``."""
        return [(self.head(step.student.cls), step.teacher.cls)]


@MODELS.register_module()
class FeatureObjective(Objective):
    """Match all tokens of the clean image, mapped by the head, to the teacher's (paper, eq. 6).

    The loss is a mean over the ``1 + N`` tokens. In the released code the cls token passes through the head of the
    *token* objective, so its part equals that objective's term (docs/reproduction.md#losses); ``cls_term`` names that
    objective, and its term is reused.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        cls_term: Name of the objective with the term of the cls token; by default this objective maps the cls
            token with its own second head.
        **objective: As for :class:`Objective`.
    """

    def __init__(self, student_dim: int, teacher_dim: int, cls_term: str | None = None, **objective: Any) -> None:
        super().__init__(student_dim, teacher_dim, **objective)
        self.cls_term = cls_term
        self.cls_head = None if cls_term else build_head(objective.get("head"), student_dim, teacher_dim)
        # A second one, since the cls token has other statistics than patches.
        self.cls_loss = None if cls_term else build_loss(objective.get("loss"), teacher_dim)

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, 1 + N, Dt)``."""
        patches = self.compare(self.head, step.student.patches, step.teacher.patches)
        if self.cls_head is None:
            cls = terms[str(self.cls_term)]
        else:
            cls = self.compare(self.cls_head, step.student.cls, step.teacher.cls, self.cls_loss)
        count = step.teacher.patches.shape[1]
        return (cls + count * patches) / (1 + count)

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the patches; a second one the cls token, unless ``cls_term`` is set."""
        return {"patches": self.head} if self.cls_head is None else {"cls": self.cls_head, "patches": self.head}

    def loss_of(self, kind: str) -> nn.Module:
        """The loss of one kind of token."""
        return self.cls_loss if kind == "cls" and self.cls_loss is not None else self.loss

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of cls tokens, unless ``cls_term`` is set, and of patches ``(B, N, Dt)``."""
        cls = [] if self.cls_head is None else [(self.cls_head(step.student.cls), step.teacher.cls)]
        return [*cls, (self.head(step.student.patches), step.teacher.patches)]
