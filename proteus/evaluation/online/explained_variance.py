"""Online evaluation: the fraction of the targets' variance that a student leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from proteus.evaluation.float64 import in_float64
from proteus.models.losses import MSELoss
from proteus.models.objectives import Objective, StepFeatures


class UnexplainedVariance:
    """Fraction of variance unexplained (1 - R^2) of each squared-error term of the loss.

    This is the term divided by that of the best constant prediction on the same images: the mean target, with a mean
    squared error equal to the targets' variance. A student that has learnt only this mean scores 1; 0.31 means that
    69 % of the variance is explained; above 1 the constant is better. Weights and units cancel, so that terms and
    teachers are comparable.

    Only terms with ``MSELoss`` have it. For other losses the ratio would mean something else, or need a solver:
    ``CosineLoss`` compares directions, and its best constant is the direction of the mean *unit* target (so that with
    targets that share a large mean even a constant has little loss); the best constant of ``SmoothL1Loss`` has no
    closed form; for ``SoftLogitsLoss`` and other losses of class scores it is the mean class distribution, and the
    ratio would measure the mutual information of image and class.

    Args:
        objectives: The distiller's objectives by name.

    Attributes:
        unsupported: The reason for each objective without this metric.
    """

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        self.objectives = dict(objectives)
        self.unsupported = {name: reason for name in objectives if (reason := self._unsupported_reason(name))}
        self._sums: dict[str, list[_Sums]] = {}

    def update(self, features: StepFeatures) -> None:
        """Add a batch of images.

        Args:
            features: Their features, with ``masked`` and ``mask_indices`` if an objective needs masks.
        """
        for name, objective in self.objectives.items():
            if self._unsupported_reason_of(objective):
                continue
            pairs = objective.compared_tokens(features)
            if pairs is None:
                continue
            sums = self._sums.setdefault(name, [_Sums() for _ in pairs])
            for one, (prediction, target) in zip(sums, pairs, strict=True):
                one.add(prediction.detach().flatten(0, -2), target.detach().flatten(0, -2))

    def compute(self) -> dict[str, float]:
        """Return the fraction for each supported objective; NaN if its targets do not vary."""
        fractions = {}
        for name, objective in self.objectives.items():
            # A term is a mean over its tokens, a joint term over the tokens of both parts.
            parts = [name, *filter(None, [objective.cls_term])]
            if name not in self.unsupported and all(part in self._sums for part in parts):
                sums = [one for part in parts for one in self._sums[part]]
                constant = sum(one.constant_error() for one in sums)
                fractions[name] = sum(one.error for one in sums) / constant if constant > 0 else float("nan")
        return fractions

    def _unsupported_reason(self, name: str) -> str | None:
        for part in filter(None, [name, self.objectives[name].cls_term]):
            objective = self.objectives[part]
            if reason := self._unsupported_reason_of(objective):
                return reason
        return None

    @staticmethod
    def _unsupported_reason_of(objective: Objective) -> str | None:
        if not isinstance(objective.loss, MSELoss):
            return f"not defined for {type(objective.loss).__name__}"
        if type(objective).compared_tokens is Objective.compared_tokens:
            return f"{type(objective).__name__} does not implement compared_tokens"
        return None


class _Sums:
    """Sums over tokens of one kind, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.error = 0.0
        self.squares = 0.0
        self.total: Tensor | float = 0.0

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add ``(n, D)`` tokens."""
        prediction, target = in_float64(prediction), in_float64(target)
        self.count += len(target)
        self.error += float((prediction - target).square().sum())
        self.squares += float(target.square().sum())
        self.total = self.total + target.sum(0)

    def constant_error(self) -> float:
        """Return the summed squared error of predicting the mean target."""
        if self.count == 0:
            return 0.0
        deviation = self.squares - float(torch.as_tensor(self.total).square().sum()) / self.count
        # For equal targets the difference is rounding of the two sums.
        return deviation if deviation > 1e-12 * self.squares else 0.0
