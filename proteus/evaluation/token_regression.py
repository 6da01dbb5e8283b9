"""How well a linear map predicts a teacher's tokens from a student's, on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.metrics import centered_cosine
from proteus.models.initialization.least_squares import LeastSquares
from proteus.structures import Features

Encode = Callable[[Tensor], Features]
_KINDS = {"cls": "cls", "patch": "patches"}


class TokenRegression:
    """Ridge regression from a student's tokens to its teacher's, for cls and patch tokens separately.

    Args:
        student: Maps images ``(B, 3, H, W)`` to features.
        teacher: Likewise, with as many patches.
        batch_size: Images per batch.
    """

    def __init__(self, student: Encode, teacher: Encode, batch_size: int = 32) -> None:
        self._student = student
        self._teacher = teacher
        self._batch_size = batch_size
        self._maps: dict[str, tuple[Tensor, Tensor]] = {}

    def fit(self, images: Tensor) -> None:
        """Fit the maps, with ridges by generalised cross-validation."""
        fits: dict[str, LeastSquares] = {}
        for name, found, wanted in self._tokens(images):
            if name not in fits:
                fits[name] = LeastSquares(found.shape[1], wanted.shape[1], found.device)
            fits[name].add(found, wanted)
        self._maps = {name: fit.solve(ridge=fit.best_ridge()) for name, fit in fits.items()}

    def measure(self, images: Tensor) -> dict[str, float]:
        """Compare predictions and the teacher's tokens on other images.

        Returns:
            For ``cls`` and ``patch``: ``centered_cosine_*`` (:func:`~proteus.evaluation.metrics.centered_cosine`), and
            ``unexplained_variance_*``, the squared error over that of the mean of these tokens.
        """
        predicted: dict[str, list[Tensor]] = {}
        targets: dict[str, list[Tensor]] = {}
        for name, found, wanted in self._tokens(images):
            predicted.setdefault(name, []).append(F.linear(found, *self._maps[name]))
            targets.setdefault(name, []).append(wanted)
        metrics = {}
        for name in predicted:
            prediction, target = torch.cat(predicted[name]), torch.cat(targets[name])
            metrics[f"centered_cosine_{name}"] = centered_cosine(prediction, target)
            variance = (target - target.mean(0)).square().sum()
            metrics[f"unexplained_variance_{name}"] = ((prediction - target).square().sum() / variance).item()
        return metrics

    @torch.no_grad()
    def _tokens(self, images: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield kind, student's and teacher's tokens ``(R, D)`` of each batch."""
        for batch in images.split(self._batch_size):
            found, wanted = self._student(batch), self._teacher(batch)
            for name, attribute in _KINDS.items():
                yield name, getattr(found, attribute).flatten(0, -2).float(), getattr(wanted, attribute).flatten(0, -2)
