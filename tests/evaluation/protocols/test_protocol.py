"""What protocols share: results that are kept, sets that are missing or wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from proteus.evaluation.frozen.feature_store import FeatureStore
from proteus.evaluation.frozen.logistic_regression import RECIPES
from proteus.evaluation.protocols import KNN, Bench, FineGrained, Outcome
from proteus.models.backbones import locate_backbone

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "Resize", "size": 32},
    {"type": "CenterCrop", "size": 32},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]
SETS = {"colours": {"type": "ClassFolders", "data_root": "colours"}}


def never(*arguments: Any) -> Any:
    raise AssertionError("nothing is trained here")


def bench(folder: Path, backbone: str = "random:test_vit") -> Bench:
    init_default_scope("proteus")
    spec = locate_backbone(backbone, img_size=32)
    store = FeatureStore(folder / "cache", spec, batch_size=8, num_workers=0)
    return Bench(spec, store, folder / "data", folder / "out", Config(), never, never, never)


@pytest.fixture
def place(classes: Callable[..., Path], tmp_path: Path) -> Path:
    classes(train=10, test=6)
    return tmp_path


def test_knn_is_scikit_learns(place: Path) -> None:
    found = bench(place)
    outcome = KNN(sets=SETS, pipeline=PIPELINE, ks=(3, 5)).run(found)
    tables = [
        found.store.table(
            found.split({**SETS["colours"], "data_root": str(place / "data/colours"), "pipeline": PIPELINE}, part),
            f"colours-{part}",
        )
        for part in ("trainval", "test")
    ]
    for k in (3, 5):
        judge = KNeighborsClassifier(k, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07))
        judge.fit(tables[0].cls, tables[0].labels)
        assert outcome.rows["colours"][f"k = {k}"] == pytest.approx(100 * judge.score(tables[1].cls, tables[1].labels))


def test_logistic_regression_is_scikit_learns_with_the_validation_fifth(place: Path) -> None:
    found = bench(place)
    row = FineGrained(sets=SETS, pipeline=PIPELINE).run(found).rows["colours"]
    config = {**SETS["colours"], "data_root": str(place / "data/colours"), "pipeline": PIPELINE}
    train, test = (found.store.table(found.split(config, part), f"colours-{part}") for part in ("trainval", "test"))
    in_val = found.split(config, "trainval").dataset.in_val()

    def score(C: float, learn: np.ndarray, told: tuple[np.ndarray, np.ndarray]) -> float:  # noqa: N803
        mean, std = train.cls[learn].mean(0), train.cls[learn].std(0)
        model = LogisticRegression(C=C, max_iter=5000, tol=1e-8).fit(
            (train.cls[learn] - mean) / std, train.labels[learn]
        )
        return 100 * model.score((told[0] - mean) / std, told[1])

    scores = [score(C, ~in_val, (train.cls[in_val], train.labels[in_val])) for C in RECIPES["paper"].constants]
    assert row["val"] == pytest.approx(max(scores))
    everything = np.ones(len(in_val), bool)
    assert row["test"] == pytest.approx(score(float(row["C"]), everything, (test.cls, test.labels)), abs=6)


def test_a_result_is_kept_until_something_that_matters_changes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    original = KNN.judge
    monkeypatch.setattr(KNN, "judge", lambda self, name, *rest: (judged.append(name), original(self, name, *rest))[1])

    def run(backbone: str = "random:test_vit", **options: Any) -> Any:
        return KNN(sets=SETS, pipeline=PIPELINE, **{"ks": (3,), **options}).run(bench(place, backbone)).rows

    first = run()
    assert run() == first
    assert len(judged) == 1
    run(ks=(5,))
    run("random:test_vit:1")
    extra = place / "data/colours/test/class0/more.png"
    Image.new("RGB", (32, 32)).save(extra)
    assert run()["colours"]["test"] == first["colours"]["test"] + 1
    assert len(judged) == 4


def test_missing_and_wrong_sets_are_named_and_the_others_judged(place: Path) -> None:
    broken = place / "data/broken"
    Image.new("RGB", (32, 32)).save(_made(broken / "train/a") / "0.png")
    (broken / "test/a").mkdir(parents=True)
    sets = {"broken": {"type": "ClassFolders", "data_root": "broken"}, "dtd": {"type": "DTD"}, **SETS}
    outcome = KNN(sets=sets, pipeline=PIPELINE, ks=(3,)).run(bench(place))
    assert list(outcome.rows) == ["colours"]
    assert "test/a" in outcome.failed["broken"]
    assert "labels/train1.txt" in outcome.missing["dtd"]
    assert str(place / "data") in outcome.missing["dtd"]


def test_a_set_without_splits_is_refused(place: Path) -> None:
    with pytest.raises(ValueError, match=r"protocol\.sets\.x\.type='ImageFolder'"):
        KNN(sets={"x": {"type": "ImageFolder", "data_root": "colours"}}, pipeline=PIPELINE).run(bench(place))


def test_the_average_is_over_the_papers_sets_alone() -> None:

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
    outcome = Outcome("", "", rows={name: {"test": float(i)} for i, name in enumerate([*names, "gtsrb"])})
    protocol.summarise(outcome)
    assert outcome.summary == {"average": 5.5}
    del outcome.rows["cub"]
    outcome.summary.clear()
    protocol.summarise(outcome)
    assert outcome.summary == {"average of 11 of the paper's 12": 5.0}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
