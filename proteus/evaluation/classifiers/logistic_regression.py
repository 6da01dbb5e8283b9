"""The fine-grained protocol: logistic regression on frozen features, its penalty chosen on a validation split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch

from proteus.evaluation.classifiers.logistic_model import (
    LogisticModel,
    check_engine,
    checked_split,
    constant_dimensions,
    fit_grid,
)
from proteus.evaluation.input_checks import Array
from proteus.evaluation.scores import map11, mean_per_class, top1

Split: TypeAlias = tuple[Array, Array]
METRICS = ("top1", "mean_per_class", "map11")


@dataclass(frozen=True)
class Recipe:
    """A grid, and when a fit may end.

    Attributes:
        constants: scikit-learn's C, the weight of the summed loss against ``|W|^2 / 2``, in the order compared: of
            equal validation scores the first wins.
        max_iter: L-BFGS steps of a fit.
        tol: Largest gradient component, of the mean loss, at which a fit is solved before that.
    """

    constants: tuple[float, ...]
    max_iter: int
    tol: float = 1e-12


# Penalties from the weakest, as the released code goes; DINOv2 goes the other way.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "paper": Recipe(tuple((1 / np.logspace(-6, 3, 45)).tolist()), max_iter=500),
        "released": Recipe(tuple((1 / np.logspace(-6, 5, 45)).tolist()), max_iter=1000),
        "dinov2": Recipe(tuple(np.logspace(-6, 5, 45).tolist()), max_iter=1000),
    }
)


@dataclass(frozen=True)
class LogisticResult:
    """What the protocol found.

    Attributes:
        metric: Of both scores: 'top1', 'mean_per_class' or 'map11'.
        test_score: Per cent, of the model fitted on train and val.
        C: The chosen one.
        val_score: Per cent at that C, of the model fitted on train.
        constants: Every C tried.
        val_scores: Per cent at each.
        iterations: L-BFGS steps of every fit: for each C (and each label of a multi-label set), then the final fit's.
        converged: Whether each of these was solved, rather than stopped at ``max_iter``.
        max_iter: That limit.
        constant_features: Number of dimensions without spread over train and val, which say nothing.
        model: The final one.
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
        """Number of fits that were not solved."""
        return self.converged.count(False)

    @property
    def at_edge(self) -> bool:
        """The chosen C is the smallest or largest of the grid: a wider one might do better."""
        return self.C in (min(self.constants), max(self.constants))

    @property
    def remarks(self) -> list[str]:
        """What a reader should know before trusting the score."""
        remarks = []
        if self.at_edge and len(self.constants) > 1:
            remarks.append("C at the edge of the grid")
        if self.unconverged:
            final = ", the final one among them" if not all(self.model.solution.converged) else ""
            remarks.append(
                f"{self.unconverged} of {len(self.converged)} fits not solved in {self.max_iter} iterations{final}"
            )
        if self.constant_features:
            remarks.append(f"{self.constant_features} constant dimensions")
        return remarks

    def __str__(self) -> str:
        """The score in one line, with its remarks."""
        said = "; ".join([f"C = {self.C:.3g}, val {self.val_score:.2f}", *self.remarks])
        return f"{self.metric} {self.test_score:.2f} ({said})"


def logistic_regression(
    train: Split,
    val: Split,
    test: Split,
    num_classes: int,
    metric: str = "top1",
    recipe: str | Recipe = "paper",
    engine: str = "auto",
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    progress: Callable[[int, int], None] | None = None,
) -> LogisticResult:
    """Fit every C of a grid on train, choose the first that is strictly best on val, refit on both, and test.

    Features are standardised with each dimension's mean and standard deviation (of the population) over train to choose
    C, over train and val for the final fit. A dimension without spread is centred and left unscaled, where the released
    code divides by 0. The bias is not penalised. A multi-label set has one two-class fit a label and one C for all, the
    one with the best mAP. A random val split may miss a class: val scores then average over the classes it has.

    The paper (section A.1.3) varies "the L2-regularization constant". These are SynCLR's words for the weight decay
    that its code, and the code released with the paper, hands to cuML as C = 1 / wd, where C means what it does in
    scikit-learn. So the constant l is the penalty's weight: the loss summed over images plus ``l |W|^2 / 2``, and
    C = 1 / l. Recipes, of 45 values each: ``paper``, l in 1e-6...1e3, 500 iterations; ``released``, l in
    1e-6...1e5, 1000 iterations; ``dinov2``, C itself in 1e-6...1e5, 1000 iterations. All three have the released
    tolerance, 1e-12, and end as scikit-learn does when the loss falls no more.

    Engines: ``torch`` fits all C at once on ``device``, ``sklearn`` one after another on the CPU; both find the same
    minimum. ``auto`` is torch, also the faster on one thread of a CPU: 5.1 s where scikit-learn, helped by
    warm starts, took 6.4 s (2000 images, D = 384, 10 classes, 45 C), and 2.3 s against 9.1 s for 20 labels (1000
    images, 15 C).

    Args:
        train: Features ``(N, D)``, and labels: ``(N,)`` classes, or ``(N, L)`` of 0 and 1 with metric 'map11'.
        val: The same, of other images.
        test: The same, of yet others.
        num_classes: Number of classes or labels.
        metric: 'top1', 'mean_per_class' or 'map11'.
        recipe: Name of one above, or your own.
        engine: 'auto', 'torch' or 'sklearn'.
        device: Where 'torch' fits.
        dtype: 'float64' or, for 'torch', 'float32': five times as fast on a CPU, as it ends earlier; weights that are
            barely penalised, of classes that can be separated, are then known to a digit only.
        progress: Called with the number of fits done and of all, the final one included.

    Raises:
        ValueError: Unknown names; features that are not finite or of different widths; labels out of range or not one a
            feature row; a class without train images; a class without test images where the metric averages over
            classes.
    """
    chosen = find_recipe(recipe)
    check_engine(engine, device, dtype)
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}; choose among {', '.join(METRICS)}")
    named = {"train": train, "val": val, "test": test}
    splits = {name: checked_split(split, num_classes, metric == "map11", name) for name, split in named.items()}
    widths = {name: features.shape[1] for name, (features, _) in splits.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"features of one backbone have one width; found {widths}")
    per_fit = num_classes if metric == "map11" else 1
    total = (len(chosen.constants) + 1) * per_fit

    def fitted(
        features: np.ndarray, labels: np.ndarray, constants: Sequence[float], before: int
    ) -> list[LogisticModel]:
        def on_fit(done: int) -> None:
            if progress is not None:
                progress(before + done, total)

        return fit_grid(
            features, labels, num_classes, constants, chosen.max_iter, chosen.tol, engine, device, dtype, on_fit
        )

    models = fitted(*splits["train"], chosen.constants, 0)
    val_scores = [_score(metric, model, *splits["val"], num_classes, skip_absent=True) for model in models]
    best = int(np.argmax(val_scores))  # the first of equals
    features, labels = (np.concatenate(pair) for pair in zip(splits["train"], splits["val"], strict=True))
    (final,) = fitted(features, labels, chosen.constants[best : best + 1], total - per_fit)
    solutions = [model.solution for model in (*models, final)]
    return LogisticResult(
        metric,
        test_score=_score(metric, final, *splits["test"], num_classes, skip_absent=False),
        C=final.C,
        val_score=val_scores[best],
        constants=chosen.constants,
        val_scores=tuple(val_scores),
        iterations=tuple(count for solution in solutions for count in solution.iterations),
        converged=tuple(solved for solution in solutions for solved in solution.converged),
        max_iter=chosen.max_iter,
        constant_features=int(constant_dimensions(features).sum()),
        model=final,
    )


def find_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe of that name, or the one given.

    Raises:
        ValueError: No recipe has that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"recipe={recipe!r}; choose among {', '.join(RECIPES)}, or give a Recipe")
    return RECIPES[recipe]


def _score(
    metric: str, model: LogisticModel, features: np.ndarray, labels: np.ndarray, num_classes: int, skip_absent: bool
) -> float:
    scores = model.scores(features)
    if metric == "map11":
        return map11(scores, labels, skip_absent)
    if metric == "top1":
        return top1(scores.argmax(axis=1), labels)
    return mean_per_class(scores.argmax(axis=1), labels, num_classes, skip_absent)
