"""The paper's objectives on tokens: cls token, all tokens, and masked patches (section 3.2, eq. 4 to 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures, build_head
from proteus.registry import MODELS
from proteus.structures import DataError

# Stands for zero masked patches: zero would divide by zero where no part of the batch, or no rank, masks any.
_NO_PATCHES = 1e-6


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

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(B, 1 + N, Dt)``."""
        patches = self.compare(self.head, step.student.patches, step.teacher.patches)
        if self.cls_head is None:
            cls = terms[str(self.cls_term)]
        else:
            cls = self.compare(self.cls_head, step.student.cls, step.teacher.cls)
        count = step.teacher.patches.shape[1]
        return (cls + count * patches) / (1 + count)

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the patches; a second one the cls token, unless ``cls_term`` is set."""
        return {"patches": self.head} if self.cls_head is None else {"cls": self.cls_head, "patches": self.head}

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of cls tokens, unless ``cls_term`` is set, and of patches ``(B, N, Dt)``."""
        cls = [] if self.cls_head is None else [(self.cls_head(step.student.cls), step.teacher.cls)]
        return [*cls, (self.head(step.student.patches), step.teacher.patches)]


@MODELS.register_module()
class PatchObjective(Objective):
    """Recover the teacher's tokens of masked patches (paper, eq. 7).

    Only masked positions count (docs/reproduction.md#losses). If ranks or parts of a batch mask different numbers of
    patches, the mean of each is weighted by its share, so that the average over them is the mean over all masked
    patches.
    """

    needs_masks = True

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(K, Dt)``, the masked patches.

        Raises:
            DataError: The batch has no masks.
        """
        tokens = step.masked_patches()
        if tokens is None or step.mask_indices is None:
            raise DataError("the patch objective needs masks: add a mask transform to the training pipeline")
        share = _share_of_ranks(step.mask_indices, step.mask_share)
        student, teacher = tokens
        if len(student) == 0:
            # 0, with a gradient for DistributedDataParallel, which waits for one.
            return self.head(student).float().sum() * share
        return self.compare(self.head, student, teacher) * share

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the patches."""
        return {"patches": self.head}

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]] | None:
        """Return the pair of masked patches, ``(K, Dt)``; None without masks."""
        tokens = step.masked_patches()
        return None if tokens is None else [(self.head(tokens[0]), tokens[1])]


def shares_of_parts(counts: Sequence[int]) -> list[float]:
    """``StepFeatures.mask_share`` of each part of a batch, from its number of masked patches."""
    positive = [max(count, _NO_PATCHES) for count in counts]
    return [len(positive) * count / sum(positive) for count in positive]


def _share_of_ranks(indices: Tensor, share_of_part: float | Tensor) -> Tensor | float:
    """The share of this part among the parts of all ranks."""
    world = get_world_size()
    if world == 1 or indices.is_meta:  # on the meta device, ranks have nothing to exchange
        return share_of_part
    count = max(len(indices), _NO_PATCHES)
    # The mean number of masked patches of this rank's parts; filled on the device, since a copy would wait for it.
    total = torch.full((), 1.0, device=indices.device) * (count / share_of_part)
    all_reduce(total)
    return world * count / total
