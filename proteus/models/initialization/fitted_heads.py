"""Heads that begin as the regression from a student's tokens to its teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.objectives import StepFeatures


@torch.no_grad()
def fit_heads(
    distiller: Any, images: Tensor, batch_size: int = 32, on_batch: Callable[[], None] | None = None
) -> list[str]:
    """Fit the linear layer at the end of each head to what the teacher makes of the same images.

    The head of an objective on the masked view is fitted on images of which half of the patches are masked at random:
    on the masked patches, or on all if these count in the objective.

    Args:
        distiller: A :class:`~proteus.models.Distiller`, in evaluation mode.
        images: ``(B, 3, H, W)``, normalised for the student.
        batch_size: Images that are encoded at a time.
        on_batch: Called after each batch.

    Returns:
        Names of the objectives of which a head was fitted. One that does not end in a linear layer, or maps something
        else than tokens to the teacher's, is left as it is. So are all heads where a standardization has no statistics
        yet, since training then changes their targets.
    """
    if distiller.standardization is not None and not distiller.standardization.fitted:
        return []
    fits = [
        _Fit(name, _view_of(objective), kind, layers[:-1], layers[-1])
        for name, objective in distiller.objectives.items()
        for kind, head in objective.heads_by_token.items()
        if not hasattr(objective.loss_of(kind), "restore")
        and isinstance(head, nn.Sequential)
        and isinstance((layers := list(head))[-1], nn.Linear)
    ]
    drawn = torch.Generator().manual_seed(0)
    for batch in images.split(batch_size):
        step = StepFeatures(distiller.targets(distiller.teacher(batch)), distiller.student(batch))
        masks = None
        if any(fit.view != "clean" for fit in fits):
            masks = (torch.rand(step.student.patches.shape[:2], generator=drawn) < 0.5).to(images.device)
            step = replace(step, masked=distiller.student(batch, masks), mask_indices=masks.flatten().nonzero()[:, 0])
        step = distiller.on_one_grid(step, batch, masks)
        for fit in fits:
            if fit.view == "clean":
                fit.add(getattr(step.student, fit.kind).flatten(0, -2), getattr(step.teacher, fit.kind).flatten(0, -2))
            elif fit.view == "masked":
                fit.add(*step.masked_patches())
            elif fit.view == "all":
                fit.add(step.masked.patches.flatten(0, 1), step.teacher.patches.flatten(0, 1))
        if on_batch is not None:
            on_batch()
    for fit in fits:
        fit.write()
    return list(dict.fromkeys(fit.objective for fit in fits))


def _view_of(objective: Any) -> str:
    """Return ``clean``, or which patches of the masked view count: ``masked`` or ``all``."""
    return getattr(objective, "tokens", "masked") if objective.needs_masks else "clean"


class _Fit:
    """The regression for one head: what comes before its last layer is kept."""

    def __init__(self, objective: str, view: str, kind: str, before: list[nn.Module], last: nn.Linear) -> None:
        self.objective = objective
        self.view = view
        self.kind = kind
        self._before = before
        self._last = last
        self._sums = LeastSquares(last.in_features, last.out_features, last.weight.device)

    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Tokens ``(R, Ds)`` and ``(R, Dt)``."""
        for layer in self._before:
            student = layer(student)
        self._sums.add(student, teacher)

    def write(self) -> None:
        weight, bias = self._sums.solve(ridge=self._sums.best_ridge())
        self._last.weight.copy_(weight)
        if self._last.bias is not None:
            self._last.bias.copy_(bias)
