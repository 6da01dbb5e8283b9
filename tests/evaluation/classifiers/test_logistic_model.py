"""A fitted classifier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from proteus.evaluation.classifiers.logistic_model import check_engine, constant_dimensions, fit, fit_grid


def toy(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 120)
    return generator.normal(size=(120, 6)) + labels[:, None] * np.linspace(0, 1, 6), labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("engine", ["torch", "sklearn"])
def test_scores_and_classes_are_scikit_learns(classes: int, engine: str) -> None:
    features, labels = toy(classes)
    scaled = StandardScaler().fit_transform(features)
    reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(scaled, labels)
    model = fit(features, labels, C=0.5, engine=engine)
    np.testing.assert_array_equal(model.predict(features), reference.predict(scaled))
    scores = model.scores(features)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), reference.predict_proba(scaled), atol=1e-4)


def test_a_dimension_without_spread_says_nothing_and_divides_by_nothing() -> None:
    features, labels = toy()
    constant = np.hstack([features, np.full((len(features), 1), 7.3)])
    assert constant_dimensions(constant).tolist() == [False] * 6 + [True]
    model = fit(constant, labels)
    assert model.scale[-1] == 1
    np.testing.assert_allclose(model.scores(constant), fit(features, labels).scores(features), atol=1e-5)


def test_several_labels_an_image_are_marked_each_by_itself() -> None:
    features, labels = toy(2)
    marks = np.stack([labels, 1 - labels], axis=1)
    assert (fit(features, marks).predict(features).sum(1) == 1).mean() > 0.99


def test_bad_input_is_named() -> None:
    features, labels = toy()
    with pytest.raises(ValueError, match="5 wide; the classifier was fitted on width 6"):
        fit(features, labels).predict(features[:, :5])
    with pytest.raises(ValueError, match="have no train image: \\[3\\]"):
        fit(features, labels, num_classes=4)
    with pytest.raises(ValueError, match="should be positive"):
        fit_grid(features, labels, 3, (0.0,), 10, 1e-6)
    with pytest.raises(ValueError, match="engine='lbfgs'"):
        check_engine("lbfgs", "cpu", "float64")
    with pytest.raises(ValueError, match="use engine='torch'"):
        check_engine("sklearn", "cpu", "float32")
