"""L2-regularised logistic regression for a whole grid of C: by scikit-learn one at a time, or in torch all at once.

Both minimise, with W the weights without the bias, the mean loss over n images and a penalty:
``1 / n * sum of -log p(label) + 1 / (2 C n) * |W|^2``, which is scikit-learn's ``C * sum + |W|^2 / 2`` divided by C n.
Two classes have one row of weights and a sigmoid, more have one each and a softmax, and a multi-label set is so many
two-class problems.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.classifiers.lbfgs import minimise

OnFit = Callable[[int], None]  # called with the number of fits finished
# Elements of one block of logits: on a CPU small enough to stay in its cache, on a GPU large enough to fill it.
BLOCK = {"cpu": 2**17, "cuda": 2**26}
# Bytes of remembered L-BFGS steps that one batch of problems may take.
MEMORY = 2 * 2**30
HISTORY = 10  # as scipy's


@dataclass(frozen=True)
class Solution:
    """The fits for one C.

    Attributes:
        weights: ``(K, D)`` float64: a row a class, a single row for two classes, a row a label of a multi-label set.
        bias: ``(K,)``.
        iterations: Of each fit: one, or one a label of a multi-label set.
        converged: Of each fit.
    """

    weights: np.ndarray
    bias: np.ndarray
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]


def solve_with_sklearn(
    features: np.ndarray, targets: np.ndarray, constants: Sequence[float], max_iter: int, tol: float, on_fit: OnFit
) -> list[Solution]:
    """Fit each C by scikit-learn's L-BFGS.

    From the strongest penalty to the weakest, each starting where the last ended: the minimum is unique, and this way
    it is near.

    Args:
        features: ``(n, D)`` float64.
        targets: ``(n,)`` classes from 0 without a gap, or ``(n, L)`` of 0 and 1.
        constants: The values of C.
        max_iter: L-BFGS steps a fit.
        tol: Largest gradient component of a solved problem.
        on_fit: See ``OnFit``.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError("engine='sklearn' needs scikit-learn: pip install scikit-learn, or engine='torch'") from error

    columns = [targets] if targets.ndim == 1 else list(targets.T)
    fits: dict[int, list[tuple[np.ndarray, np.ndarray, int, bool]]] = {index: [] for index in range(len(constants))}
    done = 0
    for column in columns:
        model = LogisticRegression(tol=tol, max_iter=max_iter, warm_start=True)
        for index in np.argsort(constants, kind="stable").tolist():
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", ConvergenceWarning)
                model.set_params(C=constants[index]).fit(features, column)
            converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in told)
            fits[index].append((model.coef_.copy(), model.intercept_.copy(), int(model.n_iter_[0]), converged))
            done += 1
            on_fit(done)
    solutions = []
    for index in range(len(constants)):
        weights, bias, iterations, converged_fits = zip(*fits[index], strict=True)
        solutions.append(Solution(np.concatenate(weights), np.concatenate(bias), iterations, converged_fits))
    return solutions


def solve_with_torch(
    features: np.ndarray,
    targets: np.ndarray,
    constants: Sequence[float],
    max_iter: int,
    tol: float,
    on_fit: OnFit,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Solution]:
    """Fit all values of C at once, by a batched L-BFGS that starts at zero.

    Args:
        features: As for :func:`solve_with_sklearn`, with the five that follow.
        targets: See there.
        constants: See there.
        max_iter: See there.
        tol: See there; what the dtype cannot tell from zero counts as zero.
        on_fit: See there.
        device: Where to fit.
        dtype: float64, or float32, whose minima agree with it to about 1e-3 where the problem is well conditioned.
    """
    ones = np.ones((len(features), 1))
    inputs = torch.from_numpy(np.hstack([features, ones])).to(device, dtype)
    classes = int(targets.max()) + 1 if targets.ndim == 1 else 0
    marks = targets[:, None] if classes == 2 else targets
    outputs = classes if classes > 2 else 1
    labels = torch.from_numpy(marks).to(device)
    columns = 1 if classes else targets.shape[1]
    # All labels of one C stand together: (C0, label 0), (C0, label 1), ...
    penalties = [1 / (constant * len(features)) for constant in constants for _ in range(columns)]
    strengths = torch.tensor(penalties, dtype=torch.float64, device=device)
    # A gradient below the rounding of its terms cannot be told from zero: this is what float32 can solve.
    tol = max(tol, 16 * torch.finfo(dtype).eps)
    width = outputs * inputs.shape[1]
    group = max(1, MEMORY // (2 * HISTORY * width * inputs.element_size()))
    points, iterations, converged = [], [], []
    for first in range(0, len(penalties), group):
        count = min(group, len(penalties) - first)
        objective = _CrossEntropy(inputs, labels, outputs, strengths, first)
        minima = minimise(
            objective,
            torch.zeros(count, width, device=device, dtype=dtype),
            max_iter,
            tol,
            history=HISTORY,
            on_done=partial(_count_from, first, on_fit),
        )
        points.append(minima.points.cpu().double())
        iterations += minima.iterations.tolist()
        converged += minima.converged.tolist()
    found = torch.cat(points).reshape(len(constants), columns * outputs, -1).numpy()
    return [
        Solution(
            rows[:, :-1],
            rows[:, -1],
            tuple(iterations[index * columns : (index + 1) * columns]),
            tuple(converged[index * columns : (index + 1) * columns]),
        )
        for index, rows in enumerate(found)
    ]


def _count_from(first: int, on_fit: OnFit, done: int) -> None:
    on_fit(first + done)


class _CrossEntropy:
    """The objective and its gradient for several weight vectors over the same images, a block of images at a time.

    Args:
        inputs: ``(n, D + 1)``, the last column of ones.
        labels: ``(n,)`` classes with ``outputs > 1``, else ``(n, L)`` of 0 and 1.
        outputs: Rows of weights a problem has.
        penalties: ``(B,)`` float64, 1 / (C n); problem i looks at column i modulo L.
        first: The problem that is asked for as number 0.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, outputs: int, penalties: Tensor, first: int) -> None:
        self.inputs, self.labels, self.outputs, self.penalties = inputs, labels, outputs, penalties
        self.first = first
        self.block = BLOCK["cpu" if inputs.device.type == "cpu" else "cuda"]

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        which = which + self.first
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
        free = weights.clone()
        free[:, -1] = 0
        squares = free.square().view(count, -1).sum(dim=1, dtype=torch.float64)
        scale = penalties.to(points.dtype).repeat_interleave(self.outputs)[:, None]
        gradient.div_(images).add_(scale * free)
        return losses / images + penalties / 2 * squares, gradient.view(count, -1)


def _softmax_excess(logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
    """Probability less the one of the labelled class, in place of logits ``(r, b, K)``; adds to losses ``(b,)``."""
    logits -= logits.amax(dim=2, keepdim=True)
    place = labels[:, None, None].expand(-1, logits.shape[1], 1)
    losses -= logits.gather(2, place)[..., 0].sum(dim=0, dtype=torch.float64)
    probabilities = logits.exp_()
    total = probabilities.sum(dim=2, keepdim=True)
    losses += total[..., 0].log().sum(dim=0, dtype=torch.float64)
    probabilities /= total
    probabilities.scatter_add_(2, place, probabilities.new_full((1, 1, 1), -1.0).expand_as(place))
    return probabilities
