"""Patch-level objective."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from proteus.models.objectives.objective import Objective, Views
from proteus.registry import MODELS
from proteus.structures import Features


@MODELS.register_module()
class PatchObjective(Objective):
    """The student recovers the teacher's tokens of the patches that it cannot see (eq. 7).

    Only masked positions count (protocols A.8). Where ranks mask different numbers of patches, each rank's mean is
    weighted by its share, so that the average over ranks is the mean over all masked patches.
    """

    needs_masks = True

    def forward(self, views: Views, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the loss over ``(K, Dt)``, the masked patches."""
        masked, indices = views.masked, views.mask_indices
        if masked is None or indices is None:
            raise ValueError("the patch objective needs masks: add a mask transform to the training pipeline")
        student = masked.patches.flatten(0, 1).index_select(0, indices)
        teacher = views.teacher.patches[: len(masked.cls)].flatten(0, 1).index_select(0, indices)
        return self.compare(self.head, student, teacher) * _share_of_rank(indices)

    def predict(self, student: Features) -> dict[str, Tensor]:
        """Return the mapped patches."""
        return {"patches": self.head(student.patches)}


def _share_of_rank(indices: Tensor) -> Tensor | float:
    world = get_world_size()
    if world == 1:
        return 1.0
    total = torch.tensor(float(len(indices)), device=indices.device)
    all_reduce(total)
    return world * len(indices) / total
