"""What protocols share: results that are kept, sets that are missing or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from protocol_runs import PIPELINE, SETS, bench

from proteus.evaluation.protocols import KNN
from proteus.structures import DataError, FullDiskError


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


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"key": 1, "result": {}}', '{"key": "a"}', '{"key": "a", "result": {"k = 3": NaN}}', "\u00e9"],
)
def test_a_damaged_result_is_named_and_not_used(place: Path, content: str) -> None:
    path = place / "out/results/knn/colours.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    outcome = KNN(sets=SETS, pipeline=PIPELINE, ks=(3,)).run(bench(place))
    assert not outcome.rows
    assert f"{path} is damaged" in outcome.failed["colours"]


def test_a_result_that_is_not_a_number_is_refused_and_not_kept(place: Path) -> None:
    with pytest.raises(DataError, match=r"knn/x: k = 3 is not a finite number"):
        bench(place).remember("knn/x", {}, lambda: {"k = 3": float("nan"), "train": 4})
    assert not (place / "out").exists()


def test_one_class_is_nothing_to_classify(place: Path) -> None:
    for part in ("train", "test"):
        Image.new("RGB", (32, 32)).save(_made(place / f"data/one/{part}/a") / "0.png")
    sets = {"one": {"type": "ClassFolders", "data_root": "one"}}
    outcome = KNN(sets=sets, pipeline=PIPELINE, ks=(1,)).run(bench(place))
    assert "has 1 class; an accuracy needs two or more" in outcome.failed["one"]


def test_a_full_disk_stops_all_sets(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise FullDiskError("features.npy: no space left on the disk")

    monkeypatch.setattr(KNN, "judge", full)
    with pytest.raises(FullDiskError):
        KNN(sets=SETS, pipeline=PIPELINE, ks=(3,)).run(bench(place))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
