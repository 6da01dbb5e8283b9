"""L2-regularised logistic regression on frozen features: one classifier, or one for each C of a grid, fitted at once.

With W the weights without the bias, a fit minimises the mean loss over n images and a penalty:
``1 / n * sum of -log p(label) + 1 / (2 C n) * |W|^2``, which is scikit-learn's ``C * sum + |W|^2 / 2`` divided by C n.
Two classes share one row of weights and a sigmoid; more classes have one row each and a softmax; a multi-label set is
one two-class problem per label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.classifiers.lbfgs import minimise
from proteus.evaluation.float64 import float64_device
from proteus.evaluation.input_checks import Array, check_classes_present, checked_features, checked_split, to_numpy

OnFit = Callable[[int], None]  # called with the number of finished fits
DTYPES = {"float64": torch.float64, "float32": torch.float32}
# Elements of one block of logits: on a CPU small enough for its cache, on a GPU large enough to fill it.
BLOCK = {"cpu": 2**17, "cuda": 2**26}
# Bytes of L-BFGS history that one batch of problems may take.
MEMORY = 2 * 2**30
HISTORY = 10  # as in scipy


@dataclass(frozen=True)
class LogisticModel:
    """A linear classifier of features.

    Attributes:
        C: Weight of the summed loss against ``|W|^2 / 2``.
        mean: ``(D,)``, subtracted from the features.
        scale: ``(D,)``, by which they are then divided.
        weights: ``(K, D)`` float64 for standardised features: one row per class, a single row for two classes, one row
            per label of a multi-label set.
        bias: ``(K,)``.
        multi_label: Whether an image can have several labels.
        iterations: L-BFGS steps of each fit: one fit, or one per label of a multi-label set.
        converged: Whether each fit converged.
    """

    C: float
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    multi_label: bool
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]

    def scores(self, features: Array) -> np.ndarray:
        """Compute logits ``(N, C)`` of features ``(N, D)``: for a softmax, or for a sigmoid per label.

        Raises:
            ValueError: Features are not finite, or have another width than the training features.
        """
        rows = checked_features(features)
        if rows.shape[1] != len(self.mean):
            raise ValueError(f"features are {rows.shape[1]} wide; the classifier was fitted on width {len(self.mean)}")
        logits = (rows - self.mean) / self.scale @ self.weights.T + self.bias
        # Two classes have one row of weights; class 0 then scores 0.
        return logits if self.multi_label or logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])

    def predict(self, features: Array) -> np.ndarray:
        """Predict classes ``(N,)``; for a multi-label set, marks ``(N, L)`` of 0 and 1."""
        scores = self.scores(features)
        return (scores > 0).astype(np.int64) if self.multi_label else scores.argmax(axis=1)


def fit(
    features: Array,
    labels: Array,
    C: float = 1.0,  # noqa: N803  scikit-learn's name
    num_classes: int | None = None,
    max_iter: int = 1000,
    tol: float = 1e-12,
    device: str | torch.device = "cpu",
    dtype: str = "float64",
) -> LogisticModel:
    """Fit one classifier for one C, for example for a fold of a cross-validation.

    Args:
        features: ``(N, D)``; standardised as in :func:`fit_grid`.
        labels: ``(N,)`` classes, or ``(N, L)`` of 0 and 1.
        C: Weight of the summed loss against ``|W|^2 / 2``.
        num_classes: Number of classes or labels; None: as many as ``labels`` has.
        max_iter: Largest number of L-BFGS steps.
        tol: Largest gradient component of a converged fit.
        device: As in :func:`fit_grid`.
        dtype: As in :func:`fit_grid`.

    Raises:
        ValueError: See :func:`~proteus.evaluation.input_checks.checked_split` and :func:`fit_grid`.
    """
    multi_label = to_numpy(labels).ndim == 2
    rows, targets = checked_split((features, labels), num_classes, multi_label)
    classes = num_classes or (targets.shape[1] if multi_label else int(targets.max()) + 1)
    (model,) = fit_grid(rows, targets, classes, (C,), max_iter, tol, device, dtype)
    return model


def fit_grid(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    constants: Sequence[float],
    max_iter: int,
    tol: float,
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    on_fit: OnFit = lambda done: None,
) -> list[LogisticModel]:
    """Fit a classifier for each C, all at once, by a batched L-BFGS that starts at zero.

    Each feature dimension is standardised with its mean and (population) standard deviation. A constant dimension is
    centred and left unscaled.

    Args:
        features: ``(N, D)`` float64, finite.
        targets: ``(N,)`` classes, or ``(N, L)`` of 0 and 1, int64.
        num_classes: Number of classes or labels.
        constants: The values of C.
        max_iter: Largest number of L-BFGS steps of a fit.
        tol: Largest gradient component of a converged fit, of the mean loss.
        device: Where to fit; the CPU in place of a device that lacks float64, in which losses are summed.
        dtype: 'float64', or 'float32', which agrees with it to about 1e-3 where the problem is well conditioned.
        on_fit: Called with the number of finished fits.

    Raises:
        ValueError: A class has no image, a label of a multi-label set is on all images, or an argument is out of range.
    """
    precision, device = find_dtype(dtype), float64_device(device)
    if not constants or min(constants) <= 0 or max_iter < 1 or tol < 0:
        raise ValueError(
            f"C and max_iter should be positive and tol not negative; found {constants}, {max_iter}, {tol}"
        )
    check_classes_present(targets, num_classes)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[constant_dimensions(features)] = 1

    # 1. One problem per C and label; all labels of one C stand together: (C0, label 0), (C0, label 1), ...
    multi_label, (images, width) = targets.ndim == 2, features.shape
    fits_per_constant = targets.shape[1] if multi_label else 1
    rows_per_fit = 1 if multi_label or num_classes == 2 else num_classes
    penalties = torch.tensor(constants, dtype=torch.float64).mul(images).reciprocal()
    inputs = torch.from_numpy(np.hstack([(features - mean) / scale, np.ones((images, 1))])).to(device, precision)
    labels = torch.from_numpy(targets[:, None] if not multi_label and rows_per_fit == 1 else targets).to(device)
    loss = _PenalisedCrossEntropy(
        inputs, labels, rows_per_fit, penalties.repeat_interleave(fits_per_constant).to(device)
    )

    # 2. Solve them, as many at a time as fit into memory.
    total, size = len(constants) * fits_per_constant, rows_per_fit * (width + 1)
    group = max(1, MEMORY // (2 * HISTORY * size * inputs.element_size()))
    # A gradient below the rounding of its terms is numerically zero: float32 cannot do better.
    tol = max(tol, 16 * torch.finfo(precision).eps)
    points, iterations, converged = [], [], []
    for first in range(0, total, group):
        minima = minimise(
            lambda at, which, first=first: loss(at, which + first),  # type: ignore[misc]
            torch.zeros(min(group, total - first), size, device=device, dtype=precision),
            max_iter,
            tol,
            history=HISTORY,
            on_done=lambda done, first=first: on_fit(first + done),  # type: ignore[misc]
        )
        points.append(minima.points.cpu().double())
        iterations += minima.iterations.tolist()
        converged += minima.converged.tolist()

    # 3. One model per C.
    solutions = torch.cat(points).reshape(len(constants), fits_per_constant * rows_per_fit, width + 1).numpy()
    models = []
    for index, (constant, solution) in enumerate(zip(constants, solutions, strict=True)):
        fits = slice(index * fits_per_constant, (index + 1) * fits_per_constant)
        weights, bias = solution[:, :-1], solution[:, -1]
        models.append(
            LogisticModel(
                constant, mean, scale, weights, bias, multi_label, tuple(iterations[fits]), tuple(converged[fits])
            )
        )
    return models


def constant_dimensions(features: np.ndarray) -> np.ndarray:
    """Find the dimensions ``(D,)`` of features ``(N, D)`` that do not vary beyond the rounding of their mean."""
    return features.std(axis=0) <= 100 * np.finfo(np.float64).eps * np.abs(features.mean(axis=0))


def find_dtype(dtype: str) -> torch.dtype:
    """Return the dtype of that name.

    Raises:
        ValueError: The name is not one of ``DTYPES``.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype={dtype!r}; choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]


class _PenalisedCrossEntropy:
    """The objective and its gradient for several weight vectors over the same images, one block of images at a time.

    Args:
        inputs: ``(n, D + 1)``, the last column of ones.
        labels: ``(n,)`` classes if ``outputs > 1``, else ``(n, L)`` of 0 and 1.
        outputs: Rows of weights per problem.
        penalties: ``(B,)`` float64, 1 / (C n); problem i reads label i modulo L.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, outputs: int, penalties: Tensor) -> None:
        self.inputs, self.labels, self.outputs, self.penalties = inputs, labels, outputs, penalties
        self.block = BLOCK["cpu" if inputs.device.type == "cpu" else "cuda"]

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``(b,)`` float64 and gradients ``(b, P)`` at points ``(b, P)`` of the problems ``which`` ``(b,)``."""
        count, images = len(points), len(self.inputs)
        weights = points.reshape(count * self.outputs, -1)
        losses = torch.zeros(count, dtype=torch.float64, device=points.device)
        gradient = torch.zeros_like(weights)
        columns = which % self.labels.shape[1] if self.outputs == 1 else None
        size = max(16, self.block // len(weights))
        for inputs, labels in zip(self.inputs.split(size), self.labels.split(size), strict=True):
            logits = inputs @ weights.t()
            if columns is None:
                excess = _softmax_excess(logits.view(len(inputs), count, -1), labels, losses)
            else:
                marks = labels[:, columns].to(logits.dtype)
                losses -= F.logsigmoid((2 * marks - 1) * logits).sum(dim=0, dtype=torch.float64)
                excess = logits.sigmoid_().sub_(marks)
            gradient.addmm_(excess.view(len(inputs), -1).t(), inputs)
        penalties = self.penalties[which]
        penalised = weights.clone()
        penalised[:, -1] = 0  # the bias is free
        squares = penalised.square().view(count, -1).sum(dim=1, dtype=torch.float64)
        scale = penalties.to(points.dtype).repeat_interleave(self.outputs)[:, None]
        gradient.div_(images).add_(scale * penalised)
        return losses / images + penalties / 2 * squares, gradient.view(count, -1)


def _softmax_excess(logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
    """Turn logits ``(r, b, K)`` in place into probability minus target, and add their losses to ``losses`` ``(b,)``."""
    logits -= logits.amax(dim=2, keepdim=True)
    place = labels[:, None, None].expand(-1, logits.shape[1], 1)
    losses -= logits.gather(2, place)[..., 0].sum(dim=0, dtype=torch.float64)
    probabilities = logits.exp_()
    total = probabilities.sum(dim=2, keepdim=True)
    losses += total[..., 0].log().sum(dim=0, dtype=torch.float64)
    probabilities /= total
    probabilities.scatter_add_(2, place, probabilities.new_full((1, 1, 1), -1.0).expand_as(place))
    return probabilities
