"""The two engines against each other: one is scikit-learn's, the other ours."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.func import grad

from proteus.evaluation.classifiers import logistic_solvers
from proteus.evaluation.classifiers.logistic_solvers import (
    OnFit,
    Solution,
    _CrossEntropy,
    solve_with_sklearn,
    solve_with_torch,
)

CONSTANTS = (1e-4, 1e-2, 1.0, 1e2, 1e4)
IMAGES, WIDTH, CLASSES = 300, 20, 5


def clouds() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    features = 0.4 * draw.standard_normal((CLASSES, WIDTH))[labels] + draw.standard_normal((IMAGES, WIDTH))
    return (features - features.mean(axis=0)) / features.std(axis=0), labels


FEATURES, LABELS = clouds()
TARGETS = {
    "five classes": LABELS,
    "two classes": (LABELS > 1).astype(np.int64),
    "three labels": np.stack([LABELS > 0, LABELS > 2, LABELS == 1], axis=1).astype(np.int64),
}


def ours(
    targets: np.ndarray,
    dtype: torch.dtype = torch.float64,
    max_iter: int = 5000,
    tol: float = 1e-9,
    on_fit: OnFit = lambda done: None,
) -> list[Solution]:
    return solve_with_torch(FEATURES, targets, CONSTANTS, max_iter, tol, on_fit, torch.device("cpu"), dtype)


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 2e-3)], ids=str)
def test_torch_equals_scikit_learn(targets: np.ndarray, dtype: torch.dtype, tolerance: float) -> None:
    for constant, found in zip(CONSTANTS, ours(targets, dtype), strict=True):
        for label in range(1 if targets.ndim == 1 else targets.shape[1]):
            column = targets if targets.ndim == 1 else targets[:, label]
            other = LogisticRegression(C=constant, tol=1e-9, max_iter=5000).fit(FEATURES, column)
            rows = slice(None) if targets.ndim == 1 else slice(label, label + 1)
            scale = np.abs(other.coef_).max()
            np.testing.assert_allclose(found.weights[rows], other.coef_, rtol=0, atol=tolerance * scale)
            np.testing.assert_allclose(found.bias[rows], other.intercept_, rtol=0, atol=tolerance)
        assert all(found.converged)


def test_warm_starts_of_scikit_learn_end_where_cold_ones_do() -> None:
    # Given out of order: each solution must stand with its own C.
    shuffled = (1.0, 1e-4, 1e4, 1e-2, 1e2)
    for constant, found in zip(
        shuffled, solve_with_sklearn(FEATURES, LABELS, shuffled, 5000, 1e-9, lambda done: None), strict=True
    ):
        cold = LogisticRegression(C=constant, tol=1e-9, max_iter=5000).fit(FEATURES, LABELS)
        np.testing.assert_allclose(found.weights, cold.coef_, rtol=0, atol=1e-5 * np.abs(cold.coef_).max())


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
def test_objective_and_gradient(targets: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own cross entropies and automatic gradient; in blocks of 16 images."""
    monkeypatch.setitem(logistic_solvers.BLOCK, "cpu", 1)
    inputs = torch.from_numpy(np.hstack([FEATURES, np.ones((IMAGES, 1))]))
    many = targets.ndim == 1 and targets.max() > 1
    labels = torch.from_numpy(targets if many or targets.ndim == 2 else targets[:, None])
    outputs, penalty = CLASSES if many else 1, torch.tensor([0.1, 0.5, 0.7, 0.2, 0.3, 0.9], dtype=torch.float64)
    which = torch.tensor([4, 1])
    points = torch.randn(2, outputs * (WIDTH + 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values, gradients = _CrossEntropy(inputs, labels, outputs, penalty, 0)(points, which)

    for row, problem in enumerate(which.tolist()):

        def expected(point: torch.Tensor, problem: int = problem) -> torch.Tensor:
            weights = point.reshape(outputs, WIDTH + 1)
            logits = inputs @ weights.t()
            if many:
                loss = torch.nn.functional.cross_entropy(logits, labels)
            else:
                column = labels[:, problem % labels.shape[1]].double()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], column)
            return loss + penalty[problem] / 2 * weights[:, :-1].square().sum()

        torch.testing.assert_close(values[row], expected(points[row]))
        torch.testing.assert_close(gradients[row], grad(expected)(points[row]))


def test_groups_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    whole = ours(TARGETS["three labels"])
    # 21 weights and twenty remembered vectors of eight bytes: four of the fifteen problems at a time.
    monkeypatch.setattr(logistic_solvers, "MEMORY", 4 * 20 * 21 * 8)
    monkeypatch.setitem(logistic_solvers.BLOCK, "cpu", 4 * 128)
    parts = ours(TARGETS["three labels"], on_fit=done.append)
    assert done == sorted(set(done))
    assert done[-1] == 15
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6 * np.abs(one.weights).max())


def test_a_fit_that_was_stopped_says_so() -> None:
    for solutions in (
        ours(LABELS, max_iter=3, tol=1e-12),
        solve_with_sklearn(FEATURES, LABELS, CONSTANTS, 3, 1e-12, lambda done: None),
    ):
        assert [solution.iterations for solution in solutions] == [(3,)] * 5
        assert [solution.converged for solution in solutions] == [(False,)] * 5
