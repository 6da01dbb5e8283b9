"""The fine-grained protocol against a chain of scikit-learn's classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from protocol_runs import PIPELINE, SETS, eval_context, saved, with_several_labels
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from proteus.datasets.fine_grained.base import validation_part
from proteus.evaluation.protocols import FineGrained, ProtocolResult

# The paper's grid of 45 penalties, from the weakest (paper, section A.1.3).
CONSTANTS = 1 / np.logspace(-6, 3, 45)


def run(place: Path, sets: Any = None, **options: Any) -> ProtocolResult:
    return FineGrained(sets=sets or SETS, pipeline=PIPELINE, **options).run(eval_context(place))


def reference(place: Path, in_val: np.ndarray, score: Any, tokens: str = "cls") -> dict[str, float]:
    """Standardise, fit each C on train, choose the first with the best score on val, refit on both, and test."""
    (features, labels), (test, truth) = saved(place, "trainval", tokens), saved(place, "test", tokens)
    features, test = (table.reshape(len(table), -1).astype(np.float64) for table in (features, test))

    def fit_classifier(C: float, rows: np.ndarray) -> Any:  # noqa: N803
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=20000, tol=1e-9))
        return classifier.fit(features[rows], labels[rows])

    scores = [score(labels[in_val], fit_classifier(C, ~in_val).predict(features[in_val])) for C in CONSTANTS]
    best = int(np.argmax(scores))
    final = fit_classifier(CONSTANTS[best], np.ones(len(labels), bool))
    return {"val": 100 * scores[best], "C": CONSTANTS[best], "test": 100 * score(truth, final.predict(test))}


def compare(row: dict[str, Any], wanted: dict[str, float]) -> None:
    assert row["val"] == pytest.approx(wanted["val"])
    assert float(row["C"]) == pytest.approx(wanted["C"], rel=0.01)
    assert row["test"] == pytest.approx(wanted["test"])


def fifth(count: int) -> np.ndarray:
    """Return the random fifth that the released code draws."""
    return np.isin(np.arange(count), np.random.RandomState(0).permutation(count)[: count // 5])


def test_a_fifth_serves_as_validation_without_a_split(place: Path) -> None:
    row = run(place).rows["colours"]
    compare(row, reference(place, fifth(30), accuracy_score))
    assert row["train + val / test images"] == "30 / 18"


def test_a_validation_split_is_used_if_there_is_one(uneven: Path) -> None:
    for label in range(3):
        folder = uneven / f"data/colours/val/class{label}"
        folder.mkdir(parents=True)
        for number in range(4):
            (uneven / f"data/colours/train/class{label}/{number:02}.png").rename(folder / f"{number:02}.png")
    sets = {"colours": {**SETS["colours"], "metric": "mean_per_class"}}
    row = run(uneven, sets).rows["colours"]
    # Training images are listed first.
    compare(row, reference(uneven, np.arange(30) >= 18, balanced_accuracy_score))
    assert row["metric"] == "mean_per_class"


def test_multiple_classifies_the_last_four_blocks_and_the_mean_patch(place: Path) -> None:
    row = run(place, multiple=True).rows["colours"]
    features, _ = saved(place, "test", "probe")
    assert features.shape == (18, 5, 64)
    compare(row, reference(place, fifth(30), accuracy_score, "probe"))


def test_every_option_is_part_of_the_settings(place: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"recipe": "released"}, {"multiple": True}]
    changes.append({"dtype": "float32"})
    found = [FineGrained(sets=SETS, pipeline=PIPELINE, **change).settings(eval_context(place)) for change in changes]
    assert len({str(sorted(settings.items())) for settings in found}) == 4


def test_a_multi_label_set_has_an_average_precision(place: Path) -> None:
    row = run(place, with_several_labels()).rows["colours"]
    assert row["metric"] == "map11"
    # Two of three labels are correct by chance: a precision of 67 per cent at any recall.
    assert 50 < row["test"] <= 100
    assert "30 images, officially 999" in row["remarks"]


def test_unknown_names_raise(place: Path) -> None:
    for option in ({"recipe": "papre"}, {"dtype": "float16"}):
        with pytest.raises(ValueError, match=next(iter(option))):
            run(place, **option)


def test_a_set_too_small_for_validation_fails_before_an_image_is_read(place: Path) -> None:
    for path in (place / "data/colours/train").rglob("*.png"):
        if path.stem != "00":
            path.unlink()
        else:
            path.write_bytes(b"nothing")
    assert "3 training images, 0 of them for validation" in run(place).failed["colours"]


def test_a_class_without_a_training_image_is_reported(place: Path) -> None:
    """The only image of a class is in the random fifth for validation."""
    first = next(count for count in range(2, 10) if validation_part(count + 11)[count])
    train = place / "data/colours/train"
    for path in [*sorted((train / "class0").iterdir())[first:], *sorted((train / "class1").iterdir())[1:]]:
        path.unlink()
    assert "1 of 3 classes have no training image apart from those for validation: [1]" in run(place).failed["colours"]


def test_the_average_is_over_the_papers_sets_only() -> None:
    names = [
        "aircraft",
        "caltech101",
        "cars",
        "cifar10",
        "cifar100",
        "dtd",
        "flowers",
        "food101",
        "pets",
        "sun397",
        "voc2007",
        "cub",
    ]
    protocol = FineGrained(sets={name: {"type": "X"} for name in [*names, "gtsrb"]}, pipeline=[])
    result = ProtocolResult("", "", rows={name: {"test": float(i)} for i, name in enumerate([*names, "gtsrb"])})
    protocol.summarise(result)
    assert result.summary == {"average": 5.5}
    del result.rows["cub"]
    result.summary.clear()
    protocol.summarise(result)
    assert result.summary == {"average of 11 of the paper's 12": 5.0}


def test_training_images_without_validation_images_fail(place: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(4):
            path = tmp_path / part / f"class{number % 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
    result = run(place, {"few": {"type": "ClassFolders", "data_root": str(tmp_path)}})
    assert result.rows == {}
    assert result.failed["few"].startswith("few: 4 training images, 0 of them for validation; both parts need one")
