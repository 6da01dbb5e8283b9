"""Similarities of the cls token to those of other images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.models.objectives.similarities import check_relation_loss, gather_ranks, similarities, unit_vectors
from proteus.registry import MODELS
from proteus.utils.argument_checks import check_whole


@MODELS.register_module()
class TokenRelationObjective(Objective):
    """Match the cosine similarities of an image's cls token to the teacher's cls tokens of other images.

    ``s_ik = cos(h(z_i), t_k)`` with the head ``h`` is compared with the teacher's ``s'_ik = cos(t_i, t_k)``. The tokens
    ``t_k`` are one of two sets:

    - ``queue_size=0``: the teacher's tokens of this batch, over all ranks. All images are needed at once, so
      micro-batches are refused.
    - ``queue_size=Q``: the image's own token and the ``Q`` newest tokens of *earlier steps* (SEED, Fang et al., ICLR
      2021, arXiv 2101.04731). Images of one step do not meet, so a term is a mean over images: micro-batches and ranks
      change nothing. After a step its tokens enter the queue, in the order of ranks and of images. While the queue
      fills, the tokens that are there count; in the first step it is only the image's own, which with
      ``RelationKLLoss`` gives 0.

    LightlyTrain's third distillation method, the source of the temperature 0.07, puts the current batch into the queue
    first, which joins both sets.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        queue_size: Tokens in the queue; 0 compares within the batch.
        loss: Config of the loss between similarities, by default ``RelationKLLoss``.
        **objective: As for :class:`Objective`.

    Attributes:
        queue: ``(Q, Dt)``, unit vectors, the newest first, then zeros; saved in checkpoints.

    Raises:
        ValueError: The loss standardises each feature channel.
    """

    needs_equal_grids = False

    queue: Tensor

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        queue_size: int = 0,
        loss: dict[str, Any] | None = None,
        **objective: Any,
    ) -> None:
        check_whole("queue_size", queue_size, 0)
        super().__init__(student_dim, teacher_dim, loss=loss or {"type": "RelationKLLoss"}, **objective)
        check_relation_loss(self, self.loss)
        self.queue_size = queue_size
        self.needs_whole_batch = queue_size == 0
        if queue_size:
            self.register_buffer("queue", torch.zeros(queue_size, teacher_dim))
        self._filled: int | None = 0  # None: to be counted
        self._parts: list[Tensor] = []  # this step's tokens so far

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over similarities ``(B, K)``."""
        student, teacher = unit_vectors(self.head(step.student.cls)), unit_vectors(step.teacher.cls)
        if not self.queue_size:
            others = gather_ranks(teacher)
            return self.loss(similarities(student, others), similarities(teacher, others))
        if self.training:
            self._parts.append(teacher)
        earlier = self.queue[: self._count()]
        # The similarity to the image's own token in the first column, those to the queue's in the others.
        prediction, target = (
            torch.cat([(tokens * teacher).sum(-1, keepdim=True), similarities(tokens, earlier)], dim=1)
            for tokens in (student, teacher)
        )
        return self.loss(prediction, target)

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the cls token, up to its length, which the loss ignores."""
        return {"cls": self.head}

    @torch.no_grad()
    def end_step(self) -> None:
        """Put the step's tokens in front of the queue; all ranks take part."""
        if not self._parts:
            return
        # Image i was in part i % n.
        newest = gather_ranks(torch.stack(self._parts, dim=1).flatten(0, 1))
        self._parts = []
        self._filled = min(self._count() + len(newest), self.queue_size)
        # Another tensor, since the backward pass of this step still reads the old one.
        self.queue = torch.cat([newest, self.queue])[: self.queue_size].clone()

    def _count(self) -> int:
        """Number of tokens in the queue, counted once after a checkpoint was loaded."""
        if self.queue.is_meta:
            return self.queue_size
        if self._filled is None:
            self._filled = int(self.queue.any(dim=1).sum())
        return self._filled

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._filled = None
