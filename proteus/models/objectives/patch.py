"""Patch-level objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.registry import MODELS
from proteus.structures import DataError

# Counts for none: a part of the batch without a masked patch must not make another's share a division by zero.
_NONE = 1e-6


@MODELS.register_module()
class PatchObjective(Objective):
    """The student recovers the teacher's tokens of the patches that it cannot see (paper, eq. 7).

    Only masked positions count (docs/reproduction.md#losses). Where ranks or parts of a batch mask different numbers of
    patches, the mean of each is weighted by its share, so that the average over them is the mean over all masked
    patches.
    """

    needs_masks = True

    def forward(self, views: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(K, Dt)``, the masked patches."""
        masked, indices = views.masked, views.mask_indices
        if masked is None or indices is None:
            raise DataError("the patch objective needs masks: add a mask transform to the training pipeline")
        student = masked.patches.flatten(0, 1).index_select(0, indices)
        share = _share(indices, views.mask_share)
        if len(indices) == 0:
            return self.head(student).float().sum() * share  # 0, with a gradient for those who wait for one
        teacher = views.teacher.patches[: len(masked.cls)].flatten(0, 1).index_select(0, indices)
        return self.compare(self.head, student, teacher) * share

    @property
    def mapped(self) -> dict[str, nn.Module]:
        """The head maps the patches."""
        return {"patches": self.head}


def shares_of_parts(counts: Sequence[int]) -> list[float]:
    """``StepFeatures.mask_share`` of each part of a batch, from its number of masked patches."""
    wanted = [max(count, _NONE) for count in counts]
    return [len(wanted) * count / sum(wanted) for count in wanted]


def _share(indices: Tensor, share_of_part: float | Tensor) -> Tensor | float:
    world = get_world_size()
    if world == 1 or indices.is_meta:  # on the meta device a step is counted, and ranks have nothing to exchange
        return share_of_part
    count = max(len(indices), _NONE)
    # What a part of this rank's batch masks on average; filled on the device, for a copy would wait for it.
    total = torch.full((), 1.0, device=indices.device) * (count / share_of_part)
    all_reduce(total)
    return world * count / total
