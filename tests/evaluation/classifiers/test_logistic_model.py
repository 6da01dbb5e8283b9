"""Logistic regression against scikit-learn, its loss against autograd, and batching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch.func import grad

from proteus.evaluation.classifiers import logistic_model
from proteus.evaluation.classifiers.logistic_model import (
    LogisticModel,
    OnFit,
    _PenalisedCrossEntropy,
    constant_dimensions,
    fit,
    fit_grid,
)

CONSTANTS = (1e-4, 1e-2, 1.0, 1e2, 1e4)
IMAGES, WIDTH, CLASSES = 300, 20, 5


def toy(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 120)
    return generator.normal(size=(120, 6)) + labels[:, None] * np.linspace(0, 1, 6), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_and_classes_equal_scikit_learn(classes: int) -> None:
    features, labels = toy(classes)
    scaled = StandardScaler().fit_transform(features)
    reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(scaled, labels)
    model = fit(features, labels, C=0.5)
    np.testing.assert_array_equal(model.predict(features), reference.predict(scaled))
    scores = model.scores(features)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), reference.predict_proba(scaled), atol=1e-4)


def test_a_constant_dimension_changes_no_score() -> None:
    features, labels = toy()
    constant = np.hstack([features, np.full((len(features), 1), 7.3)])
    assert constant_dimensions(constant).tolist() == [False] * 6 + [True]
    model = fit(constant, labels)
    assert model.scale[-1] == 1
    np.testing.assert_allclose(model.scores(constant), fit(features, labels).scores(features), atol=1e-5)


def test_labels_of_a_multi_label_set_are_predicted_independently() -> None:
    features, labels = toy(2)
    marks = np.stack([labels, 1 - labels], axis=1)
    assert (fit(features, marks).predict(features).sum(1) == 1).mean() > 0.99


def test_invalid_input_raises() -> None:
    features, labels = toy()
    with pytest.raises(ValueError, match="5 wide; the classifier was fitted on width 6"):
        fit(features, labels).predict(features[:, :5])
    with pytest.raises(ValueError, match="have no train image: \\[3\\]"):
        fit(features, labels, num_classes=4)
    with pytest.raises(ValueError, match="should be positive"):
        fit_grid(features, labels, 3, (0.0,), 10, 1e-6)
    with pytest.raises(ValueError, match="unknown dtype='float16'; choose from float64, float32"):
        fit(features, labels, dtype="float16")


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


def fit_all(
    targets: np.ndarray,
    dtype: str = "float64",
    max_iter: int = 5000,
    tol: float = 1e-9,
    on_fit: OnFit = lambda done: None,
) -> list[LogisticModel]:
    classes = int(targets.max()) + 1 if targets.ndim == 1 else targets.shape[1]
    return fit_grid(FEATURES, targets, classes, CONSTANTS, max_iter, tol, dtype=dtype, on_fit=on_fit)


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-5), ("float32", 2e-3)])
def test_weights_equal_scikit_learn(targets: np.ndarray, dtype: str, tolerance: float) -> None:
    for constant, found in zip(CONSTANTS, fit_all(targets, dtype), strict=True):
        for label in range(1 if targets.ndim == 1 else targets.shape[1]):
            column = targets if targets.ndim == 1 else targets[:, label]
            other = LogisticRegression(C=constant, tol=1e-9, max_iter=5000).fit(FEATURES, column)
            rows = slice(None) if targets.ndim == 1 else slice(label, label + 1)
            scale = np.abs(other.coef_).max()
            np.testing.assert_allclose(found.weights[rows], other.coef_, rtol=0, atol=tolerance * scale)
            np.testing.assert_allclose(found.bias[rows], other.intercept_, rtol=0, atol=tolerance)
        assert all(found.converged)


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS.keys())
def test_loss_and_gradient(targets: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with torch's cross entropies and autograd, in blocks of 16 images."""
    monkeypatch.setitem(logistic_model.BLOCK, "cpu", 1)
    inputs = torch.from_numpy(np.hstack([FEATURES, np.ones((IMAGES, 1))]))
    many = targets.ndim == 1 and targets.max() > 1
    labels = torch.from_numpy(targets if many or targets.ndim == 2 else targets[:, None])
    outputs, penalty = CLASSES if many else 1, torch.tensor([0.1, 0.5, 0.7, 0.2, 0.3, 0.9], dtype=torch.float64)
    which = torch.tensor([4, 1])
    points = torch.randn(2, outputs * (WIDTH + 1), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values, gradients = _PenalisedCrossEntropy(inputs, labels, outputs, penalty)(points, which)

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


def test_groups_and_blocks_do_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    full = fit_all(TARGETS["three labels"])
    # 21 weights and 20 vectors of history, 8 bytes each: four of the 15 problems at a time.
    monkeypatch.setattr(logistic_model, "MEMORY", 4 * 20 * 21 * 8)
    monkeypatch.setitem(logistic_model.BLOCK, "cpu", 4 * 128)
    parts = fit_all(TARGETS["three labels"], on_fit=done.append)
    assert done == sorted(set(done))
    assert done[-1] == 15
    for one, other in zip(full, parts, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6 * np.abs(one.weights).max())


def test_a_fit_that_stopped_early_did_not_converge() -> None:
    models = fit_all(LABELS, max_iter=3, tol=1e-12)
    assert [model.iterations for model in models] == [(3,)] * 5
    assert [model.converged for model in models] == [(False,)] * 5
