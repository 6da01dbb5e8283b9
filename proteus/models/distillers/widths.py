"""Widths of the tokens that heads map: ``cls`` and ``patches`` may differ in a student of several feature levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proteus.models.backbones.levels import token_width
from proteus.registry import MODELS


def head_widths(objective: Mapping[str, Any], student: Any, teacher: Any) -> dict[str, int]:
    """Return ``student_dim`` and ``teacher_dim`` of an objective: of patches for one that compares patch by patch.

    Args:
        objective: Config of the objective.
        student: The student.
        teacher: The teacher.
    """
    kind: Any = objective.get("type")
    target = MODELS.get(kind) if isinstance(kind, str) else kind
    reads = "patches" if getattr(target, "needs_equal_grids", True) else "cls"
    return {"student_dim": token_width(student, reads), "teacher_dim": teacher.embed_dim}
