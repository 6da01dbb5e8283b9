"""The interface of objectives: the features of a step, and the base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

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
        labels: Classes of the images if the data set has labels: indices ``(B,)`` int64 or, of mixed images,
            probabilities ``(B, C)``; :func:`torch.nn.functional.cross_entropy` takes both.
        mask_share: Weight of the mean over this batch's masked patches if the batch is one of several parts (micro
            batches) with averaged terms: its number of masked patches, divided by the mean of the parts. A whole batch
            has 1.
        teacher_hidden: The teacher's residual stream after each block, ``(B, ...)``, if any objective asks for it.
        student_hidden: The student's, of the clean images.
    """

    teacher: Features
    student: Features
    masked: Features | None = None
    mask_indices: Tensor | None = None
    teacher_logits: Tensor | None = None
    labels: Tensor | None = None
    mask_share: float | Tensor = 1.0
    teacher_hidden: tuple[Features, ...] = ()
    student_hidden: tuple[Features, ...] = ()

    def require_labels(self) -> Tensor:
        """Return the labels.

        Raises:
            ValueError: The data set has none.
        """
        if self.labels is None:
            raise ValueError("an objective reads labels and the batch has none: use dataset type='LabelledFolder'")
        return self.labels

    def masked_patches(self) -> tuple[Tensor, Tensor] | None:
        """Return the student's and the teacher's tokens of the masked patches, ``(K, Ds)`` and ``(K, Dt)``.

        None if the batch has no masks.
        """
        if self.masked is None or self.mask_indices is None:
            return None
        student = self.masked.patches.flatten(0, 1).index_select(0, self.mask_indices)
        teacher = self.teacher.patches[: len(self.masked.cls)].flatten(0, 1).index_select(0, self.mask_indices)
        return student, teacher


class Objective(nn.Module):
    """One term of the loss: a head and a loss between some tokens of the student and of the teacher.

    A subclass implements :meth:`forward` and sets the class attributes that describe what it reads:

    ======================= ======================================================================= =======
    attribute               meaning                                                                 default
    ======================= ======================================================================= =======
    ``needs_masks``         reads ``StepFeatures.masked``: the batch needs masks                    False
    ``needs_equal_grids``   compares patch by patch: gets teacher and student on one grid           True
    ``needs_teacher``       reads the teacher's features or logits: ``NoTeacher`` is refused        True
    ``needs_logits``        reads ``StepFeatures.teacher_logits``: the teacher needs a classifier   False
    ``needs_labels``        reads ``StepFeatures.labels``                                           False
    ``needs_whole_batch``   compares images with each other: micro-batches are refused              False
    ``needs_hidden_states`` reads the residual streams after each block of student and teacher      False
    ``num_classes``         number of classes of the logits that it reads                           None
    ``cls_term``            name of an earlier objective; its term is reused                        None
    ======================= ======================================================================= =======

    It may also implement :attr:`heads_by_token`, for predictions and sliced initialization, and
    :meth:`compared_tokens`, for the fraction of variance unexplained of online evaluation.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        weight: Factor of the term in the total loss (paper, the lambdas of eq. 8).
        head: Config of the head, by default a ``DistillHead``.
        loss: Config of the loss, by default ``MSELoss``.
    """

    needs_masks: ClassVar[bool] = False
    needs_equal_grids: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    needs_logits: ClassVar[bool] = False
    needs_labels: bool = False
    needs_hidden_states: ClassVar[bool] = False
    needs_whole_batch: bool = False
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
        self.loss = build_loss(loss, teacher_dim)

    @abstractmethod
    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Compute the unweighted term.

        Args:
            step: The step's features.
            terms: Unweighted terms computed so far, among them that of ``cls_term``.

        Returns:
            A scalar in float32.
        """

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The heads that map tokens of clean images to the teacher's, by kind of token: ``cls``, ``patches``."""
        return {}

    def predict(self, student: Features) -> dict[str, Tensor]:
        """Map the student's tokens of clean images to the teacher's space.

        Returns:
            ``cls`` ``(B, Dt)`` and / or ``patches`` ``(B, N, Dt)``, or ``logits`` ``(B, C)``.
        """
        predicted = {kind: head(getattr(student, kind)) for kind, head in self.heads_by_token.items()}
        return {kind: restored(self.loss_of(kind), tokens) for kind, tokens in predicted.items()}

    def loss_of(self, kind: str) -> nn.Module:
        """The loss of one kind of token, ``cls`` or ``patches``."""
        return self.loss

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]] | None:
        """Return predictions and targets of this objective, each ``(..., Dt)``, without its loss.

        One pair for each kind of token, each of which has its own mean. Tokens in the term of ``cls_term`` are left to
        that objective. None if the step lacks what the objective reads.

        Raises:
            NotImplementedError: The objective does not implement it; its variance unexplained is then left out.
        """
        raise NotImplementedError

    def compare(self, head: nn.Module, student: Tensor, teacher: Tensor, loss: nn.Module | None = None) -> Tensor:
        """The loss of ``head(student)`` against ``teacher``, in float32 whatever the autocast."""
        return (loss or self.loss)(head(student).float(), teacher.float())


def build_head(config: dict[str, Any] | None, student_dim: int, teacher_dim: int) -> nn.Module:
    """Build a distill head between two widths."""
    return MODELS.build(config or {"type": "DistillHead"}, default_args={"in_dim": student_dim, "out_dim": teacher_dim})


def build_loss(config: dict[str, Any] | None, channels: int) -> nn.Module:
    """Build a loss, by default ``MSELoss``; one with statistics of channels gets their number."""
    loss: Any = MODELS.build(config or {"type": "MSELoss"})
    if hasattr(loss, "set_channels"):
        loss.set_channels(channels)
    built: nn.Module = loss
    return built


def restored(loss: Any, prediction: Tensor) -> Tensor:
    """Map a prediction to the teacher's space if its loss compares in another one (``StandardizedMSELoss``)."""
    tokens: Tensor = loss.restore(prediction) if hasattr(loss, "restore") else prediction
    return tokens


def end_step(objectives: nn.Module) -> None:
    """Let all parts that remember earlier steps (a queue, running statistics) take in the step that has ended."""
    for module in objectives.modules():
        part: Any = module
        if hasattr(part, "end_step"):
            part.end_step()
