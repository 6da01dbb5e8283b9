"""Token-level objective."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.registry import MODELS


@MODELS.register_module()
class TokenObjective(Objective):
    """The student's cls token of the clean image, mapped, equals the teacher's (paper, eq. 4 and 5)."""

    needs_equal_grids = False

    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, Dt)``."""
        return self.compare(self.head, views.student.cls, views.teacher.cls)

    @property
    def mapped(self) -> dict[str, nn.Module]:
        """The head maps the cls token."""
        return {"cls": self.head}
