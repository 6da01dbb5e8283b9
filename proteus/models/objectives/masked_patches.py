"""The paper's objective on masked patches (section 3.2, eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.registry import MODELS
from proteus.structures import DataError
from proteus.utils.argument_checks import check_choice

# Used in place of a count of 0, which would cause a division by zero if no part of the batch, or no rank, has masked
# patches.
_NO_PATCHES = 1e-6


@MODELS.register_module()
class PatchObjective(Objective):
    """Recover the teacher's tokens of masked patches (paper, eq. 7).

    By default only masked positions count (docs/reproduction.md#losses). If ranks or parts of a batch mask different
    numbers of patches, the mean of each is weighted by its share, so that the average over them is the mean over all
    masked patches.

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        tokens: Patches of the masked view that count: ``masked``, or ``all``, the visible ones too (iBOT++ in TIPSv2,
            arXiv 2604.12012). The student's tokens are computed anyway, so ``all`` costs only the head.
        **objective: As for :class:`Objective`.
    """

    needs_masks = True

    def __init__(
        self, student_dim: int, teacher_dim: int, tokens: Literal["masked", "all"] = "masked", **objective: Any
    ) -> None:
        check_choice("tokens", tokens, ("masked", "all"))
        super().__init__(student_dim, teacher_dim, **objective)
        self.tokens = tokens

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(K, Dt)``, the masked patches, or over ``(M, N, Dt)``, all of the masked view.

        Raises:
            DataError: The batch has no masks.
        """
        tokens = self._pair(step)
        if tokens is None or step.mask_indices is None:
            raise DataError("the patch objective needs masks: add a mask transform to the training pipeline")
        student, teacher = tokens
        # Of all patches, ranks and parts have equal numbers of masked images.
        share = _share_of_ranks(step.mask_indices, step.mask_share) if self.tokens == "masked" else 1.0
        if len(student) == 0:
            # 0, with a gradient for DistributedDataParallel, which waits for one.
            return self.head(student).float().sum() * share
        return self.compare(self.head, student, teacher) * share

    @property
    def heads_by_token(self) -> dict[str, nn.Module]:
        """The head maps the patches."""
        return {"patches": self.head}

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]] | None:
        """Return the pair of masked patches, ``(K, Dt)``, or of all, ``(M, N, Dt)``; None without masks."""
        tokens = self._pair(step)
        return None if tokens is None else [(self.head(tokens[0]), tokens[1])]

    def _pair(self, step: StepFeatures) -> tuple[Tensor, Tensor] | None:
        if self.tokens == "masked":
            return step.masked_patches()
        return None if step.masked is None else (step.masked.patches, step.teacher.patches[: len(step.masked.cls)])


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
