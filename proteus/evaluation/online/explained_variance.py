"""What a loss means: how it compares with that of a constant answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from proteus.models.losses import MSELoss
from proteus.models.objectives import Objective, StepFeatures


class UnexplainedVariance:
    """Each term of the loss over that of the best constant answer, on the same images.

    The mean squared error of the best constant, the mean target, is the targets' variance. So 1 is what a student
    scores that knows nothing but this mean, 0.31 says that 69 % of the variance is explained, and above 1 the constant
    would be better. Weights and units cancel, which makes terms and teachers comparable.

    Only terms under ``MSELoss`` are given. Of the others the figure would say something else, or need a solver:
    ``CosineLoss`` compares directions, of which the best constant is that of the mean *unit* target (so that targets
    with a large common mean leave even a constant little loss); for ``SmoothL1Loss`` the best constant has no closed
    form; for ``SoftLogitsLoss`` and the other losses on class scores it is the mean class distribution, and the figure
    would be a share of the mutual information of image and class.

    Args:
        objectives: The distiller's, by name.

    Attributes:
        left_out: Why, for each objective that has no figure.
    """

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        self.objectives = dict(objectives)
        self.left_out = {name: reason for name in objectives if (reason := self._refusal(name))}
        self._sums: dict[str, list[_Sums]] = {}

    def update(self, step: StepFeatures) -> None:
        """Add some images.

        Args:
            step: Their features; ``masked`` and ``mask_indices`` where an objective needs masks.
        """
        for name, objective in self.objectives.items():
            if self._reason_left_out(objective):
                continue
            pairs = objective.compared_tokens(step)
            if pairs is None:
                continue
            sums = self._sums.setdefault(name, [_Sums() for _ in pairs])
            for one, (prediction, target) in zip(sums, pairs, strict=True):
                one.add(prediction.detach().flatten(0, -2), target.detach().flatten(0, -2))

    def compute(self) -> dict[str, float]:
        """Return the figure of each objective that has one; NaN where the targets do not vary."""
        figures = {}
        for name, objective in self.objectives.items():
            # Each term is a mean over its tokens, and so is the joint one over those of both.
            parts = [name, *filter(None, [objective.cls_term])]
            if name not in self.left_out and all(part in self._sums for part in parts):
                sums = [one for part in parts for one in self._sums[part]]
                constant = sum(one.of_constant() for one in sums)
                figures[name] = sum(one.error for one in sums) / constant if constant > 0 else float("nan")
        return figures

    def _refusal(self, name: str) -> str | None:
        for part in filter(None, [name, self.objectives[name].cls_term]):
            objective = self.objectives[part]
            if reason := self._reason_left_out(objective):
                return reason
        return None

    @staticmethod
    def _reason_left_out(objective: Objective) -> str | None:
        if not isinstance(objective.loss, MSELoss):
            return f"{type(objective.loss).__name__} has no such figure"
        if type(objective).compared_tokens is Objective.compared_tokens:
            return f"{type(objective).__name__} does not implement compared_tokens"
        return None


class _Sums:
    """Sums over the tokens of one kind, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.error = 0.0
        self.squares = 0.0
        self.total: Tensor | float = 0.0

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add ``(n, D)`` tokens."""
        target = target.double()
        self.count += len(target)
        self.error += float((prediction.double() - target).square().sum())
        self.squares += float(target.square().sum())
        self.total = self.total + target.sum(0)

    def of_constant(self) -> float:
        """The summed squared error of answering the mean target."""
        if self.count == 0:
            return 0.0
        spread = self.squares - float(torch.as_tensor(self.total).square().sum()) / self.count
        # What is left of equal targets is rounding of the two sums.
        return spread if spread > 1e-12 * self.squares else 0.0
