"""A linear classifier of frozen features, fitted by logistic regression: for one C, or for a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from proteus.evaluation.classifiers.logistic_solvers import OnFit, Solution, solve_with_sklearn, solve_with_torch
from proteus.evaluation.input_checks import Array, checked_features, checked_labels, checked_marks, to_numpy

ENGINES = ("auto", "torch", "sklearn")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class LogisticModel:
    """A fitted classifier of features.

    Attributes:
        C: Weight of the summed loss against ``|W|^2 / 2``.
        mean: ``(D,)``, taken off the features.
        scale: ``(D,)``, by which they are then divided.
        solution: Weights ``(K, D)`` and bias ``(K,)`` for the features so standardised, K as in :class:`Solution`.
        multi_label: Several classes an image.
    """

    C: float
    mean: np.ndarray
    scale: np.ndarray
    solution: Solution
    multi_label: bool

    def scores(self, features: Array) -> np.ndarray:
        """Logits ``(N, C)`` of features ``(N, D)``: of a softmax, or of one sigmoid a label of a multi-label set.

        Raises:
            ValueError: Features are not finite, or of another width.
        """
        found = checked_features(features)
        if found.shape[1] != len(self.mean):
            raise ValueError(f"features are {found.shape[1]} wide; the classifier was fitted on width {len(self.mean)}")
        return self._scores((found - self.mean) / self.scale)

    def predict(self, features: Array) -> np.ndarray:
        """Classes ``(N,)``; of a multi-label set, marks ``(N, L)`` of 0 and 1."""
        scores = self.scores(features)
        return (scores > 0).astype(np.int64) if self.multi_label else scores.argmax(axis=1)

    def _scores(self, standardised: np.ndarray) -> np.ndarray:
        logits = standardised @ self.solution.weights.T + self.solution.bias
        # Two classes have one row of weights; class 0 then scores 0.
        return logits if self.multi_label or logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])


def fit(
    features: Array,
    labels: Array,
    C: float = 1.0,  # noqa: N803  scikit-learn's name
    num_classes: int | None = None,
    max_iter: int = 1000,
    tol: float = 1e-12,
    engine: str = "auto",
    device: str | torch.device = "cpu",
    dtype: str = "float64",
) -> LogisticModel:
    """One classifier for one C: for a fold of a cross-validation, or a set without a grid.

    Args:
        features: ``(N, D)``; standardised as :func:`fit_grid` does.
        labels: ``(N,)`` classes, or ``(N, L)`` of 0 and 1.
        C: Weight of the summed loss against ``|W|^2 / 2``.
        num_classes: Number of classes or labels; None: as many as ``labels`` show.
        max_iter: L-BFGS steps.
        tol: Largest gradient component of a solved fit.
        engine: As :func:`fit_grid`, with the two that follow.
        device: See there.
        dtype: See there.

    Returns:
        The classifier; ``model.solution.converged`` says whether the fit was solved.

    Raises:
        ValueError: As :func:`checked_split` and :func:`fit_grid`.
    """
    multi_label = to_numpy(labels).ndim == 2
    found, targets = checked_split((features, labels), num_classes, multi_label)
    classes = num_classes or (targets.shape[1] if multi_label else int(targets.max()) + 1)
    (model,) = fit_grid(found, targets, classes, (C,), max_iter, tol, engine, device, dtype)
    return model


def fit_grid(
    features: np.ndarray,
    targets: np.ndarray,
    num_classes: int,
    constants: Sequence[float],
    max_iter: int,
    tol: float,
    engine: str = "auto",
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    on_fit: OnFit = lambda done: None,
) -> list[LogisticModel]:
    """A classifier for each C.

    Features are standardised with each dimension's mean and standard deviation (of the population). A dimension without
    spread is centred and left unscaled.

    Args:
        features: ``(N, D)`` float64, finite.
        targets: ``(N,)`` classes, or ``(N, L)`` of 0 and 1, int64.
        num_classes: Number of classes or labels.
        constants: The values of C.
        max_iter: L-BFGS steps a fit.
        tol: Largest gradient component of a solved fit.
        engine: 'torch', all C at once; 'sklearn', one after another on the CPU; 'auto', torch.
        device: Where 'torch' fits.
        dtype: 'float64', or with 'torch' 'float32'.
        on_fit: Called with the number of fits finished.

    Raises:
        ValueError: A class has no image (or is on all images of a multi-label set), or an argument is none.
    """
    check_engine(engine, device, dtype)
    if not constants or min(constants) <= 0 or max_iter < 1 or tol < 0:
        raise ValueError(
            f"C and max_iter should be positive and tol not negative; found {constants}, {max_iter}, {tol}"
        )
    _refuse_absent(targets, num_classes)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[constant_dimensions(features)] = 1
    inputs = (features - mean) / scale
    if engine == "sklearn":
        solutions = solve_with_sklearn(inputs, targets, constants, max_iter, tol, on_fit)
    else:
        solutions = solve_with_torch(
            inputs, targets, constants, max_iter, tol, on_fit, torch.device(device), DTYPES[dtype]
        )
    return [
        LogisticModel(constant, mean, scale, solution, targets.ndim == 2)
        for constant, solution in zip(constants, solutions, strict=True)
    ]


def constant_dimensions(features: np.ndarray) -> np.ndarray:
    """Which dimensions ``(D,)`` of features ``(N, D)`` have no spread beyond the rounding of their mean."""
    return features.std(axis=0) <= 100 * np.finfo(np.float64).eps * np.abs(features.mean(axis=0))


def checked_split(
    split: tuple[Array, Array], num_classes: int | None, multi_label: bool, name: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(N, D)`` float64 and labels int64 of a split, called ``name`` in errors.

    Raises:
        ValueError: Features are not finite, labels not in range, or not one a feature row.
    """
    name = f"{name} " if name else ""
    features = checked_features(split[0], f"{name}features")
    if multi_label:
        labels = checked_marks(split[1], f"{name}labels")
        if num_classes is not None and labels.shape[1] != num_classes:
            raise ValueError(f"{name}labels mark {labels.shape[1]} classes; num_classes={num_classes}")
    else:
        labels = checked_labels(split[1], num_classes, f"{name}labels")
    if len(features) != len(labels):
        raise ValueError(f"{name}features and labels differ in number: {len(features)} rows, {len(labels)} labels")
    return features, labels


def check_engine(engine: str, device: str | torch.device, dtype: str) -> None:
    """Raise a ValueError for names that are none, and for what scikit-learn cannot do."""
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}; choose among {', '.join(ENGINES)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}; choose among {', '.join(DTYPES)}")
    if engine == "sklearn" and (torch.device(device).type != "cpu" or dtype != "float64"):
        raise ValueError(f"engine='sklearn' fits in float64 on the CPU; found {dtype} on {device}: use engine='torch'")


def _refuse_absent(targets: np.ndarray, num_classes: int) -> None:
    if num_classes < 2 and targets.ndim == 1:
        raise ValueError(f"num_classes={num_classes}: at least two classes are needed to tell apart")
    counts = np.bincount(targets, minlength=num_classes) if targets.ndim == 1 else targets.sum(axis=0)
    absent = np.flatnonzero(counts == 0).tolist()
    if absent:
        raise ValueError(f"{len(absent)} of {num_classes} classes have no train image: {absent[:10]}")
    everywhere = np.flatnonzero(counts == len(targets)).tolist()
    if everywhere:
        raise ValueError(f"{len(everywhere)} of {num_classes} labels are on every train image: {everywhere[:10]}")
