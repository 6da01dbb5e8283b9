from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, jaccard_score

from proteus.evaluation.scores import (
    ALEXNET_ERRORS,
    confusion_matrix,
    map11,
    mean_corruption_error,
    mean_iou,
    mean_per_class,
    top1,
)

AS = pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])


@AS
def test_top1_and_mean_per_class_by_hand(array: Callable) -> None:
    labels, predictions = array([0, 0, 0, 1, 2, 2]), array([0, 0, 1, 1, 0, 2])
    assert top1(predictions, labels) == pytest.approx(100 * 4 / 6)
    assert mean_per_class(predictions, labels, 3) == pytest.approx(100 * (2 / 3 + 1 + 1 / 2) / 3)


def test_mean_per_class_equals_balanced_accuracy() -> None:
    draw = np.random.default_rng(0)
    labels, predictions = draw.integers(0, 7, 200), draw.integers(0, 7, 200)
    assert mean_per_class(predictions, labels, 7) == pytest.approx(100 * balanced_accuracy_score(labels, predictions))


@AS
def test_map11_by_hand(array: Callable) -> None:
    # Ranked: hit, miss, hit, miss. Precision 1 up to recall 1/2 (0, .1, ..., .5: six recalls), 2/3 beyond (five).
    first = ([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0])
    # Ranked: miss, miss, hit, hit. Precision rises with recall, so its maximum, 1/2, is at all eleven.
    second = ([0.9, 0.8, 0.7, 0.1], [0, 0, 1, 1])
    scores, labels = array([first[0], second[0]]).T, array([first[1], second[1]]).T
    expected = [(6 * 1 + 5 * 2 / 3) / 11, 1 / 2]
    assert map11(scores[:, :1], labels[:, :1]) == pytest.approx(100 * expected[0])
    assert map11(scores, labels) == pytest.approx(100 * sum(expected) / 2)


def test_a_recall_of_exactly_a_tenth_is_reached() -> None:
    # 3 hits, 3 misses, 7 hits: precision 1 up to recall 3/10, at four of the eleven recalls; then 10/13.
    scores, labels = -np.arange(13.0)[:, None], np.array([1] * 3 + [0] * 3 + [1] * 7)[:, None]
    assert map11(scores, labels) == pytest.approx(100 * (4 + 7 * 10 / 13) / 11)


def test_tied_scores_are_ranked_together() -> None:
    scores, labels = np.zeros((4, 1)), np.array([[1], [0], [0], [0]])
    assert map11(scores, labels) == map11(scores, labels[::-1]) == pytest.approx(25)


def test_mean_corruption_error_by_hand() -> None:
    assert mean_corruption_error({name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}) == pytest.approx(100)
    # Halved everywhere but in fog, which is wrong everywhere: (14 / 2 + 1 / 0.819324) / 15.
    errors = {name: [0.0, error, error / 2, error / 2, error / 2] for name, error in ALEXNET_ERRORS.items()}
    errors["fog"] = [1.0] * 5
    assert mean_corruption_error(errors) == pytest.approx(100 * (7 + 1 / 0.819324) / 15)


def test_absent_classes_raise_or_are_skipped() -> None:
    with pytest.raises(ValueError, match=r"1 of 3 have no image here: \[1\]"):
        mean_per_class(np.array([0, 2]), np.array([0, 2]), 3)
    assert mean_per_class(np.array([0, 0]), np.array([0, 2]), 3, skip_absent=True) == 50
    with pytest.raises(ValueError, match=r"map11 .* 1 of 2 have no image here: \[1\]"):
        map11(np.zeros((2, 2)), np.array([[1, 0], [0, 0]]))
    assert map11(np.array([[2.0, 0], [1, 0]]), np.array([[1, 0], [0, 0]]), skip_absent=True) == 100


def test_invalid_labels_raise() -> None:
    with pytest.raises(ValueError, match=r"labels\[1\] is 3; labels must lie between 0 and 2"):
        mean_per_class(np.array([0, 1]), np.array([0, 3]), 3)
    with pytest.raises(ValueError, match=r"predictions\[0\] is -1; labels must be 0 or more"):
        top1(np.array([-1]), np.array([0]))
    with pytest.raises(ValueError, match="found 1 predictions and 2 labels"):
        top1(np.array([0]), np.array([0, 1]))
    with pytest.raises(ValueError, match="found float64"):
        top1(np.array([0.5]), np.array([0]))
    with pytest.raises(ValueError, match="integers"):
        top1(np.array([], dtype=int), np.array([], dtype=int))


def test_invalid_scores_raise() -> None:
    with pytest.raises(ValueError, match=r"scores\[1, 0\] is NaN"):
        map11(np.array([[0.0], [np.nan]]), np.array([[1], [0]]))
    with pytest.raises(ValueError, match=r"labels\[1, 0\] is -1"):
        map11(np.zeros((2, 1)), np.array([[1], [-1]]))
    with pytest.raises(ValueError, match=r"found \(3, 1\) and \(2, 1\)"):
        map11(np.zeros((3, 1)), np.array([[1], [0]]))


def test_incomplete_or_invalid_corruptions_raise() -> None:
    errors = {name: [0.5] * 5 for name in ALEXNET_ERRORS}
    with pytest.raises(ValueError, match=r"missing: \['fog'\], unknown: \['spatter'\]"):
        mean_corruption_error({"spatter" if name == "fog" else name: found for name, found in errors.items()})
    with pytest.raises(ValueError, match="snow: expected errors at severities 1 to 5; found 4"):
        mean_corruption_error(errors | {"snow": [0.5] * 4})
    for wrong in (50.0, float("nan")):
        with pytest.raises(ValueError, match=r"snow: errors should be in \[0, 1\]"):
            mean_corruption_error(errors | {"snow": [0.5] * 4 + [wrong]})


def test_mean_iou_of_a_hand_worked_case() -> None:
    truth = np.array([[0, 0, 1], [1, 2, -1]])
    predicted = np.array([[0, 1, 1], [1, 4, 3]])
    confusion = confusion_matrix(predicted, truth, 6)
    # Class 0: 1 of 2; class 1: 2 of 3; 2 and 4: 0 of 1; 3 is predicted where pixels are ignored, 5 nowhere.
    assert confusion.sum() == 5
    assert mean_iou(confusion) == pytest.approx(100 * (1 / 2 + 2 / 3 + 0 + 0) / 4)
    assert np.isnan(mean_iou(confusion_matrix(predicted, np.full((2, 3), -1), 6)))


def test_mean_iou_equals_scikit_learns_jaccard() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = (generator.integers(0, 6, 500) for _ in range(2))
    expected = 100 * jaccard_score(truth, predicted, average="macro")
    assert mean_iou(confusion_matrix(predicted, truth, 6)) == pytest.approx(expected)
