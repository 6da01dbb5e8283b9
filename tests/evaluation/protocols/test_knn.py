"""The k-NN protocol against scikit-learn on the saved features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from protocol_runs import PIPELINE, SETS, eval_context, saved, with_several_labels
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from proteus.evaluation.protocols import KNN, ProtocolResult


def run(place: Path, sets: Any = None, **options: Any) -> ProtocolResult:
    return KNN(sets=sets or SETS, pipeline=PIPELINE, **options).run(eval_context(place))


def reference(place: Path, k: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's predictions for the saved test features, and the labels."""
    (features, labels), (test, truth) = saved(place, "trainval"), saved(place, "test")
    classifier = KNeighborsClassifier(k, metric="cosine", weights=lambda far: np.exp((1 - far) / temperature))
    return classifier.fit(features[:, 0], labels).predict(test[:, 0]), truth


@pytest.mark.parametrize("temperature", [0.07, 2.0])
def test_top1_equals_scikit_learn(place: Path, temperature: float) -> None:
    row = run(place, ks=(1, 3, 5, 30), temperature=temperature).rows["colours"]
    for k in (1, 3, 5, 30):
        predicted, truth = reference(place, k, temperature)
        assert row[f"k = {k}"] == pytest.approx(100 * (predicted == truth).mean())
    assert (row["metric"], row["train"], row["test"]) == ("top1", 30, 18)


def test_mean_per_class_equals_balanced_accuracy(uneven: Path) -> None:
    sets = {"colours": {**SETS["colours"], "metric": "mean_per_class"}}
    row = run(uneven, sets, ks=(3,)).rows["colours"]
    predicted, truth = reference(uneven, 3, 0.07)
    assert np.bincount(truth).tolist() == [2, 6, 5]
    wanted = 100 * balanced_accuracy_score(truth, predicted)
    assert row["k = 3"] == pytest.approx(wanted)
    assert abs(wanted - 100 * (predicted == truth).mean()) > 1  # the two metrics differ here
    assert row["metric"] == "mean_per_class"


def test_validation_images_are_neighbours_too(place: Path) -> None:
    expected = run(place, ks=(1,)).rows["colours"]
    for label in range(3):
        folder = place / f"data/colours/val/class{label}"
        folder.mkdir(parents=True)
        for number in range(4):
            image = place / f"data/colours/train/class{label}/{number:02}.png"
            image.rename(folder / image.name)
    assert run(place, ks=(1,)).rows["colours"] == expected


def test_temperature_and_statistics_change_the_result(place: Path) -> None:
    hot, cold = (run(place, ks=(30,), temperature=value).rows["colours"]["k = 30"] for value in (1e6, 1e-3))
    # At a high temperature each of a class's ten votes is 1 + cosine / temperature: the highest mean cosine wins.
    (features, labels), (test, truth) = saved(place, "trainval"), saved(place, "test")
    train, test = (table[:, 0] / np.linalg.norm(table[:, 0], axis=1, keepdims=True) for table in (features, test))
    cosines = test.astype(np.float64) @ np.stack([train[labels == label].mean(0) for label in range(3)], 1)
    assert hot == pytest.approx(100 * (cosines.argmax(1) == truth).mean())
    nearest = labels[(test @ train.T).argmax(1)]
    assert cold == pytest.approx(100 * (nearest == truth).mean())
    assert hot != cold
    run(place, ks=(1,), mean=(0.9, 0.1, 0.5), std=(0.1, 0.2, 0.3))
    first, second = (np.load(folder / "features.npy") for folder in (place / "cache").glob("colours-test-cls-*"))
    assert np.abs(first - second).max() > 0.1


def test_a_multi_label_set_fails_before_extraction(place: Path) -> None:
    result = run(place, with_several_labels(), ks=(3,))
    assert not result.rows
    assert result.failed["colours"].startswith(
        "images of several labels: k-NN needs one label per image; remove the set"
    )
    assert not (place / "cache").exists()


def test_more_neighbours_than_images_fail_before_extraction(place: Path) -> None:
    result = run(place, ks=(5, 31))
    assert "30 training images, fewer than protocol.ks=(5, 31)" in result.failed["colours"]
    assert not (place / "cache").exists()


@pytest.mark.parametrize(
    "option",
    [
        *({"ks": ks} for ks in ((), (0,), (-1, 5), (True,), (2.0,), ("5",), "5", 5, None)),
        *({"temperature": value} for value in (0, -0.07, float("nan"), float("inf"), "0.07", True, None)),
        *({"mean": value} for value in ((0.5,), (0.5, 0.5, float("nan")), "abc", (1, 2, "3"))),
        {"std": (0.2, 0.0, 0.2)},
        {"sets": {}},
        {"sets": {"colours": None}},
    ],
    ids=str,
)
def test_invalid_options_raise(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"protocol\.{next(iter(option))}"):
        KNN(**{"sets": SETS, "pipeline": PIPELINE, **option})
