"""Logistic regression on frozen features with its penalty chosen on a validation split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch

from proteus.evaluation.classifiers.logistic_model import LogisticModel, constant_dimensions, fit_grid
from proteus.evaluation.input_checks import Array, checked_split
from proteus.evaluation.scores import score

Split: TypeAlias = tuple[Array, Array]
METRICS = ("top1", "mean_per_class", "map11")


@dataclass(frozen=True)
class Recipe:
    """A grid of penalties and the stopping rule of a fit.

    Attributes:
        constants: scikit-learn's C, the weight of the summed loss against ``|W|^2 / 2``, in order of comparison: among
            equal validation scores the first wins.
        max_iter: Largest number of L-BFGS steps of a fit.
        tol: Largest gradient component, of the mean loss, of a converged fit.
    """

    constants: tuple[float, ...]
    max_iter: int
    tol: float = 1e-12


# From the weakest penalty, as in the released code; DINOv2 starts with the strongest.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "paper": Recipe(tuple((1 / np.logspace(-6, 3, 45)).tolist()), max_iter=500),
        "released": Recipe(tuple((1 / np.logspace(-6, 5, 45)).tolist()), max_iter=1000),
        "dinov2": Recipe(tuple(np.logspace(-6, 5, 45).tolist()), max_iter=1000),
    }
)


@dataclass(frozen=True)
class LogisticResult:
    """Scores of a grid search.

    Attributes:
        metric: Metric of both scores: 'top1', 'mean_per_class' or 'map11'.
        test_score: Score on test in per cent, of the model fitted on train and val.
        C: The chosen C.
        val_score: Score on val in per cent at that C, of the model fitted on train.
        constants: Every C of the grid.
        val_scores: Score on val in per cent at each C.
        iterations: L-BFGS steps of every fit: for each C (and each label of a multi-label set), then the final fit's.
        converged: Whether each fit converged, rather than stopped at ``max_iter``.
        max_iter: Largest number of steps.
        constant_features: Number of constant dimensions over train and val.
        model: The final model.
    """

    metric: str
    test_score: float
    C: float
    val_score: float
    constants: tuple[float, ...]
    val_scores: tuple[float, ...]
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]
    max_iter: int
    constant_features: int
    model: LogisticModel

    @property
    def unconverged(self) -> int:
        """Number of fits that did not converge."""
        return self.converged.count(False)

    @property
    def at_edge(self) -> bool:
        """Whether the chosen C is the smallest or largest of the grid: a wider grid might do better."""
        return self.C in (min(self.constants), max(self.constants))

    @property
    def remarks(self) -> list[str]:
        """Reasons to distrust the score."""
        remarks = []
        if self.at_edge and len(self.constants) > 1:
            remarks.append("C at the edge of the grid")
        if self.unconverged:
            final = ", including the final one" if not all(self.model.converged) else ""
            fits = f"{self.unconverged} of {len(self.converged)} fits"
            remarks.append(f"{fits} did not converge in {self.max_iter} iterations{final}")
        if self.constant_features:
            remarks.append(f"{self.constant_features} constant dimensions")
        return remarks

    def __str__(self) -> str:
        """Format the score and its remarks in one line."""
        details = "; ".join([f"C = {self.C:.3g}, val {self.val_score:.2f}", *self.remarks])
        return f"{self.metric} {self.test_score:.2f} ({details})"


def logistic_regression(
    train: Split,
    val: Split,
    test: Split,
    num_classes: int,
    metric: str = "top1",
    recipe: str | Recipe = "paper",
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    progress: Callable[[int, int], None] | None = None,
) -> LogisticResult:
    """Fit every C of a grid on train, choose the first with the best score on val, refit on both, and test.

    Each dimension is standardised with its mean and (population) standard deviation over train to choose C, and over
    train and val for the final fit. A constant dimension is centred and left unscaled, where the released code divides
    by 0. The bias is not penalised. A multi-label set has one two-class fit per label and a single C, the one with the
    best mAP. A random val split may miss a class: val scores then average over the classes it has.

    The paper (section A.1.3) varies "the L2-regularization constant". These are SynCLR's words for the weight decay
    that its code, and the code released with the paper, passes to cuML as C = 1 / wd, with C as in scikit-learn. So
    the constant l is the penalty's weight: the loss summed over images plus ``l |W|^2 / 2``, and C = 1 / l. Recipes,
    of 45 values each: ``paper``, l in 1e-6...1e3, 500 iterations; ``released``, l in 1e-6...1e5, 1000 iterations;
    ``dinov2``, C itself in 1e-6...1e5, 1000 iterations. All three have the released tolerance, 1e-12, and stop like
    scikit-learn when the loss no longer falls.

    All C are fitted at once, which is faster than scikit-learn one after another with warm starts, even on one thread
    of a CPU: 5.1 s against 6.4 s (2000 images, D = 384, 10 classes, 45 C), and 2.3 s against 9.1 s for 20 labels (1000
    images, 15 C). Tests compare the minima with scikit-learn's.

    Args:
        train: Features ``(N, D)``, and labels: ``(N,)`` classes, or ``(N, L)`` of 0 and 1 with metric 'map11'.
        val: As train, of other images.
        test: As train, of other images.
        num_classes: Number of classes or labels.
        metric: 'top1', 'mean_per_class' or 'map11'.
        recipe: Name of a recipe above, or a :class:`Recipe`.
        device: Where to fit.
        dtype: 'float64' or 'float32', which is five times as fast on a CPU, since it stops earlier; barely penalised
            weights of separable classes are then accurate to one digit only.
        progress: Called with the number of finished fits and of all fits, including the final one.

    Raises:
        ValueError: Unknown names; features that are not finite or differ in width; labels that are out of range or
            differ in number from the features; a class without train images; a class without test images if the
            metric averages over classes.
    """
    chosen = find_recipe(recipe)
    if metric not in METRICS:
        raise ValueError(f"unknown metric={metric!r}; choose from {', '.join(METRICS)}")
    named = {"train": train, "val": val, "test": test}
    splits = {name: checked_split(split, num_classes, metric == "map11", name) for name, split in named.items()}
    widths = {name: features.shape[1] for name, (features, _) in splits.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"features of train, val and test should have the same width; found {widths}")
    per_fit = num_classes if metric == "map11" else 1
    total = (len(chosen.constants) + 1) * per_fit

    def fitted(
        features: np.ndarray, labels: np.ndarray, constants: Sequence[float], before: int
    ) -> list[LogisticModel]:
        def on_fit(done: int) -> None:
            if progress is not None:
                progress(before + done, total)

        return fit_grid(features, labels, num_classes, constants, chosen.max_iter, chosen.tol, device, dtype, on_fit)

    models = fitted(*splits["train"], chosen.constants, 0)
    val_scores = [_score(metric, model, *splits["val"], skip_absent=True) for model in models]
    best = int(np.argmax(val_scores))  # the first among equals
    features, labels = (np.concatenate(pair) for pair in zip(splits["train"], splits["val"], strict=True))
    (final,) = fitted(features, labels, chosen.constants[best : best + 1], total - per_fit)
    return LogisticResult(
        metric,
        test_score=_score(metric, final, *splits["test"], skip_absent=False),
        C=final.C,
        val_score=val_scores[best],
        constants=chosen.constants,
        val_scores=tuple(val_scores),
        iterations=tuple(count for model in (*models, final) for count in model.iterations),
        converged=tuple(solved for model in (*models, final) for solved in model.converged),
        max_iter=chosen.max_iter,
        constant_features=int(constant_dimensions(features).sum()),
        model=final,
    )


def find_recipe(recipe: str | Recipe) -> Recipe:
    """Return the recipe of that name, or the recipe itself.

    Raises:
        ValueError: No recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"unknown recipe={recipe!r}; choose from {', '.join(RECIPES)}, or give a Recipe")
    return RECIPES[recipe]


def _score(metric: str, model: LogisticModel, features: np.ndarray, labels: np.ndarray, skip_absent: bool) -> float:
    return score(metric, model.scores(features), labels, skip_absent)
