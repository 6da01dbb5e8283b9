import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from proteus.evaluation.classifiers.logistic_model import fit
from proteus.evaluation.classifiers.logistic_regression import (
    RECIPES,
    LogisticResult,
    Recipe,
    Split,
    logistic_regression,
)
from proteus.evaluation.scores import map11, mean_per_class

CLASSES, WIDTH = 4, 12
GRID = Recipe(tuple(np.logspace(-5, 3, 9).tolist()), max_iter=3000, tol=1e-9)


def clouds(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of different sizes; features of very different scales."""
    centres = np.random.default_rng(99).standard_normal((CLASSES, WIDTH))
    draw = np.random.default_rng(seed)
    labels = draw.choice(CLASSES, number, p=(0.4, 0.3, 0.2, 0.1))
    noisy = 0.7 * centres[labels] + 2 * draw.standard_normal((number, WIDTH))
    return (noisy * np.logspace(-3, 3, WIDTH) + 5).astype(np.float32), labels


TRAIN, VAL, TEST = clouds(80, 0), clouds(40, 1), clouds(200, 2)
# Two labels per image, for a multi-label set.
MANY = tuple(
    (split[0], np.stack([split[1] > 0, split[1] % 2], axis=1).astype(np.int64)) for split in (TRAIN, VAL, TEST)
)


def by_hand(constant: float, *splits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Predict the last split with scikit-learn, fitted on the others."""
    features = np.concatenate([split[0] for split in splits[:-1]]).astype(np.float64)
    labels = np.concatenate([split[1] for split in splits[:-1]])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=constant, max_iter=5000, tol=1e-9))
    return model.fit(features, labels).predict(splits[-1][0].astype(np.float64))


def test_the_search_step_by_step() -> None:
    found = logistic_regression(TRAIN, VAL, TEST, CLASSES, "top1", GRID)
    val_scores = [100 * accuracy_score(VAL[1], by_hand(constant, TRAIN, VAL)) for constant in GRID.constants]
    assert found.val_scores == pytest.approx(val_scores)
    best = next(index for index, score in enumerate(val_scores) if score == max(val_scores))
    assert GRID.constants[best] == found.C
    assert found.val_score == max(val_scores)
    assert found.test_score == pytest.approx(100 * accuracy_score(TEST[1], by_hand(found.C, TRAIN, VAL, TEST)))
    assert found.unconverged == 0
    assert len(found.iterations) == len(found.converged) == 10
    assert found.test_score > 50


def test_the_first_c_wins_among_equal_scores() -> None:
    # Penalties so strong that all three predict the same.
    up = Recipe((1e-9, 1e-8, 1e-7), 500)
    down = dataclasses.replace(up, constants=up.constants[::-1])
    found = [logistic_regression(TRAIN, VAL, TEST, CLASSES, "top1", recipe) for recipe in (up, down)]
    assert len(set(found[0].val_scores)) == 1
    assert [result.C for result in found] == [1e-9, 1e-7]
    assert "C at the edge of the grid" in str(found[0])


def test_mean_per_class_is_used_for_selection_and_test() -> None:
    found = logistic_regression(TRAIN, VAL, TEST, CLASSES, "mean_per_class", GRID)
    expected = [mean_per_class(by_hand(constant, TRAIN, VAL), VAL[1], CLASSES) for constant in GRID.constants]
    assert found.val_scores == pytest.approx(expected)
    assert found.test_score == pytest.approx(mean_per_class(by_hand(found.C, TRAIN, VAL, TEST), TEST[1], CLASSES))


def test_a_multi_label_set_has_one_binary_fit_per_label_and_a_single_c() -> None:
    seen: list[tuple[int, int]] = []
    found = logistic_regression(
        MANY[0], MANY[1], MANY[2], 2, "map11", GRID, progress=lambda done, total: seen.append((done, total))
    )
    scaler = StandardScaler().fit(MANY[0][0].astype(np.float64))
    for constant, score in zip(GRID.constants, found.val_scores, strict=True):
        rankings = [
            LogisticRegression(C=constant, max_iter=5000, tol=1e-9)
            .fit(scaler.transform(MANY[0][0].astype(np.float64)), MANY[0][1][:, label])
            .decision_function(scaler.transform(MANY[1][0].astype(np.float64)))
            for label in range(2)
        ]
        assert score == pytest.approx(map11(np.stack(rankings, axis=1), MANY[1][1]))
    assert found.val_score == max(found.val_scores)
    assert found.model.predict(TEST[0]).shape == (200, 2)
    assert len(found.iterations) == 20
    assert seen[-1] == (20, 20)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_fits_that_did_not_converge_are_counted_and_reported() -> None:
    found = logistic_regression(TRAIN, VAL, TEST, CLASSES, recipe=Recipe((1e3, 1.0), max_iter=4))
    assert (found.unconverged, found.max_iter, found.iterations) == (3, 4, (4, 4, 4))
    assert "3 of 3 fits did not converge in 4 iterations, including the final one" in str(found)
    assert "not converge" not in str(logistic_regression(TRAIN, VAL, TEST, CLASSES, recipe=GRID))


def test_a_constant_dimension_is_harmless_and_reported() -> None:
    def widened(split: tuple[np.ndarray, np.ndarray], value: float) -> tuple[np.ndarray, np.ndarray]:
        return np.hstack([split[0], np.full((len(split[0]), 1), value, np.float32)]), split[1]

    plain = logistic_regression(TRAIN, VAL, TEST, CLASSES, "top1", GRID)
    found = logistic_regression(widened(TRAIN, 0.1), widened(VAL, 0.1), widened(TEST, 7), CLASSES, "top1", GRID)
    assert (found.test_score, found.C) == (plain.test_score, plain.C)
    assert found.constant_features == 1
    assert "1 constant dimensions" in str(found)


def test_recipes() -> None:
    """The ends of the grids, in order; C = 1 / l for the paper's and the released l."""
    ends = {name: (recipe.constants[0], recipe.constants[-1], recipe.max_iter) for name, recipe in RECIPES.items()}
    assert ends["paper"] == pytest.approx((1e6, 1e-3, 500))
    assert ends["released"] == pytest.approx((1e6, 1e-5, 1000))
    assert ends["dinov2"] == pytest.approx((1e-6, 1e5, 1000))
    for recipe in RECIPES.values():
        steps = np.diff(np.log10(recipe.constants))
        assert len(recipe.constants) == 45
        np.testing.assert_allclose(steps, steps[0])


def test_recipe_by_name_and_torch_inputs() -> None:
    splits = [(torch.tensor(features), torch.tensor(labels)) for features, labels in (TRAIN, VAL, TEST)]
    found = logistic_regression(splits[0], splits[1], splits[2], CLASSES, recipe="paper", dtype="float32")
    assert isinstance(found, LogisticResult)
    assert found.constants == RECIPES["paper"].constants
    double = logistic_regression(TRAIN, VAL, TEST, CLASSES, recipe="paper")
    assert found.val_score == pytest.approx(double.val_score, abs=2.6)  # one image of 40
    assert found.unconverged == double.unconverged == 0


@pytest.mark.parametrize("classes", [CLASSES, 2])
def test_cross_validation_equals_scikit_learn(classes: int) -> None:
    features, labels = TEST[0].astype(np.float64), TEST[1] % classes
    folds = np.arange(len(labels)) % 5
    scores = []
    for fold in range(5):
        model = fit(features[folds != fold], labels[folds != fold], C=0.1)
        assert model.converged == (True,)
        assert model.scores(features).shape == (len(labels), classes)
        scores.append((model.predict(features[folds == fold]) == labels[folds == fold]).mean())
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-9, max_iter=5000))
    parts = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(5)]
    np.testing.assert_allclose(scores, cross_val_score(pipeline, features, labels, cv=parts))


def spoiled(split: tuple[np.ndarray, np.ndarray], row: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    features = split[0].copy()
    features[row, 3] = value
    return features, split[1]


def test_invalid_input_raises() -> None:
    def run(train: Split, val: Split, test: Split, metric: str = "top1") -> LogisticResult:
        return logistic_regression(train, val, test, CLASSES, metric, GRID)

    with pytest.raises(ValueError, match=r"val features: row 7 is not finite \(holds nan\)"):
        run(TRAIN, spoiled(VAL, 7, np.nan), TEST)
    with pytest.raises(ValueError, match=r"train features: row 0 is not finite \(holds -inf\)"):
        run(spoiled(TRAIN, 0, -np.inf), VAL, TEST)
    with pytest.raises(ValueError, match=r"test labels\[5\] is 4; labels must lie between 0 and 3"):
        run(TRAIN, VAL, (TEST[0], np.where(np.arange(200) == 5, 4, TEST[1])))
    with pytest.raises(ValueError, match=r"1 of 4 classes have no train image: \[2\]"):
        run((TRAIN[0], np.where(TRAIN[1] == 2, 0, TRAIN[1])), VAL, TEST)
    with pytest.raises(ValueError, match=r"same width; found {'train': 12, 'val': 9, 'test': 12}"):
        run(TRAIN, (VAL[0][:, :9], VAL[1]), TEST)
    with pytest.raises(ValueError, match="val features and labels differ in number: 40 rows, 39 labels"):
        run(TRAIN, (VAL[0], VAL[1][:39]), TEST)
    with pytest.raises(ValueError, match=r"mean_per_class .* 1 of 4 have no image here"):
        run(TRAIN, VAL, (TEST[0][TEST[1] < 3], TEST[1][TEST[1] < 3]), metric="mean_per_class")
    with pytest.raises(ValueError, match=r"found \(80,\)"):
        run(TRAIN, VAL, TEST, metric="map11")
    with pytest.raises(ValueError, match="train labels mark 2 classes; num_classes=4"):
        run(MANY[0], MANY[1], MANY[2], metric="map11")
    with pytest.raises(ValueError, match="features are 9 wide; the classifier was fitted on width 12"):
        fit(*TRAIN).scores(TEST[0][:, :9])
    with pytest.raises(ValueError, match=r"1 of 2 labels are on every train image: \[1\]"):
        fit(TRAIN[0], np.stack([TRAIN[1] > 0, TRAIN[1] >= 0], axis=1))


def test_a_val_split_may_miss_a_class() -> None:
    few = VAL[1] < 3
    val = VAL[0][few], VAL[1][few]
    found = logistic_regression(TRAIN, val, TEST, CLASSES, "mean_per_class", GRID)
    recalls = [(by_hand(found.C, TRAIN, val)[val[1] == index] == index).mean() for index in range(3)]
    assert found.val_score == pytest.approx(100 * np.mean(recalls))


def test_unknown_names_raise() -> None:
    for options, message in (
        ({"metric": "top5"}, "metric='top5'; choose from top1, mean_per_class, map11"),
        ({"recipe": "papers"}, "recipe='papers'; choose from paper, released, dinov2"),
        ({"dtype": "float16"}, "dtype='float16'; choose from float64, float32"),
        ({"recipe": Recipe((0.0,), 10)}, "C and max_iter should be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            logistic_regression(TRAIN, VAL, TEST, CLASSES, **options)
