"""What an objective is given, and what it must answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number


@dataclass(frozen=True)
class StepFeatures:
    """The features of one training step.

    Attributes:
        teacher: Teacher's features of the clean images, ``(B, ...)``.
        student: Student's features of the clean images, ``(B, ...)``.
        masked: Student's features of the first ``M`` images with patches masked, ``(M, ...)``, if any objective
            asks for them.
        mask_indices: ``(K,)`` int64, the masked patches as rows of the first ``M`` images' flattened patches.
        teacher_logits: Class scores of the teacher's classifier, ``(B, C)``, if any objective asks for them.
        labels: Classes ``(B,)`` int64, or shares of classes ``(B, C)``, where the data set has labels.
        mask_share: Weight of a mean over this batch's masked patches, where the batch is one of several parts whose
            terms are averaged: its number of masked patches over the parts' mean number. A part that is all has 1.
    """

    teacher: Features
    student: Features
    masked: Features | None = None
    mask_indices: Tensor | None = None
    teacher_logits: Tensor | None = None
    labels: Tensor | None = None
    mask_share: float | Tensor = 1.0


class Objective(nn.Module):
    """One term of the loss: a head and a loss between some tokens of the student and of the teacher.

    A subclass says which tokens. The distiller asks these things of it:

    - ``needs_masks``: it reads ``StepFeatures.masked``.
    - ``needs_equal_grids``: it compares patch by patch.
    - ``needs_teacher``: it reads ``StepFeatures.teacher`` or ``StepFeatures.teacher_logits``.
    - ``needs_logits``: it reads ``StepFeatures.teacher_logits``.
    - ``needs_labels``: it reads ``StepFeatures.labels``.
    - ``num_classes``: the length of the class scores that it reads.
    - ``cls_term``: it takes up the term of the objective of this name, and is computed after it.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        weight: Factor of the term in the total (paper, the lambdas of eq. 8).
        head: Config of the distill head.
        loss: Config of the loss.
    """

    needs_masks: ClassVar[bool] = False
    needs_equal_grids: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = False
    needs_labels: bool = False
    num_classes: int | None = None
    cls_term: str | None = None

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        weight: float = 1.0,
        head: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.weight = check_number("weight", weight, 0)
        self.head = build_head(head, student_dim, teacher_dim)
        self.loss = MODELS.build(loss or {"type": "MSELoss"})

    @abstractmethod
    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Compute the unweighted term.

        Args:
            views: The step's features.
            terms: Unweighted terms computed so far, among them that of ``cls_term``.

        Returns:
            A scalar in float32.
        """

    @property
    def mapped(self) -> dict[str, nn.Module]:
        """The heads that map tokens of clean images to the teacher's, by the tokens they map: ``cls``, ``patches``."""
        return {}

    def predict(self, student: Features) -> dict[str, Tensor]:
        """What this objective's heads make of clean images, in the teacher's width.

        Returns:
            ``cls`` ``(B, Dt)`` and / or ``patches`` ``(B, N, Dt)``, or ``logits`` ``(B, C)``.
        """
        return {kind: head(getattr(student, kind)) for kind, head in self.mapped.items()}

    def compare(self, head: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of ``head(student)`` against ``teacher``, in float32 whatever the autocast."""
        return self.loss(head(student).float(), teacher.float())


def build_head(config: dict[str, Any] | None, student_dim: int, teacher_dim: int) -> nn.Module:
    """Build a distill head between two widths."""
    return MODELS.build(config or {"type": "DistillHead"}, default_args={"in_dim": student_dim, "out_dim": teacher_dim})


def check_head(key: str, head: nn.Module, student_dim: int, teacher_dim: int) -> None:
    """Check that a head maps tokens of the student's width to the teacher's.

    Args:
        key: Its key, for messages.
        head: The head.
        student_dim: Width of the student's tokens.
        teacher_dim: Width of the teacher's tokens.

    Raises:
        ValueError: It takes or gives tokens of another width.
    """
    device = next((parameter.device for parameter in head.parameters()), torch.get_default_device())
    training = head.training
    try:
        with torch.no_grad():
            width = head.eval()(torch.zeros(1, student_dim, device=device)).shape[-1]
    except RuntimeError as error:
        raise ValueError(f"{key}: {type(head).__name__} does not take the student's width {student_dim}") from error
    finally:
        head.train(training)
    if width != teacher_dim:
        raise ValueError(f"{key}: {type(head).__name__} gives width {width}, and the teacher's tokens {teacher_dim}")
