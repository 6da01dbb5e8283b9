"""Base protocol: cached results, and missing or invalid sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from protocol_runs import PIPELINE, SETS, eval_context

from proteus.evaluation.protocols import KNN
from proteus.structures import DataError, FullDiskError


def test_a_result_is_cached_until_its_inputs_change(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    original = KNN.evaluate
    monkeypatch.setattr(
        KNN, "evaluate", lambda self, name, *rest: (evaluated.append(name), original(self, name, *rest))[1]
    )

    def run(backbone: str = "random:test_vit", **options: Any) -> Any:
        return KNN(sets=SETS, pipeline=PIPELINE, **{"ks": (3,), **options}).run(eval_context(place, backbone)).rows

    first = run()
    assert run() == first
    assert len(evaluated) == 1
    run(ks=(5,))
    run("random:test_vit:1")
    extra = place / "data/colours/test/class0/more.png"
    Image.new("RGB", (32, 32)).save(extra)
    assert run()["colours"]["test"] == first["colours"]["test"] + 1
    assert len(evaluated) == 4


def test_a_result_depends_on_statistics_and_precision(place: Path) -> None:
    computed: list[int] = []

    def run(device: str = "cpu", **statistics: Any) -> None:
        context = eval_context(place)
        context.spec, context.store.device = replace(context.spec, **statistics), torch.device(device)
        context.cached_result("knn/x", {}, lambda: {"k = 3": float(computed.append(0) or 0)})

    for number, change in enumerate(({}, {"mean": (0.5,) * 3}, {"std": (0.5,) * 3}, {"device": "cuda:1"}), 1):
        run(**change)
        run(**change)
        assert len(computed) == number


def test_other_sets_are_evaluated_if_some_are_missing_or_invalid(place: Path) -> None:
    broken = place / "data/broken"
    Image.new("RGB", (32, 32)).save(_made_folder(broken / "train/a") / "0.png")
    (broken / "test/a").mkdir(parents=True)
    sets = {"broken": {"type": "ClassFolders", "data_root": "broken"}, "dtd": {"type": "DTD"}, **SETS}
    result = KNN(sets=sets, pipeline=PIPELINE, ks=(3,)).run(eval_context(place))
    assert list(result.rows) == ["colours"]
    assert "test/a" in result.failed["broken"]
    assert "labels/train1.txt" in result.missing["dtd"]
    assert str(place / "data") in result.missing["dtd"]


def test_a_set_without_splits_raises(place: Path) -> None:
    with pytest.raises(ValueError, match=r"protocol\.sets\.x\.type='ImageFolder'"):
        KNN(sets={"x": {"type": "ImageFolder", "data_root": "colours"}}, pipeline=PIPELINE).run(eval_context(place))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"key": 1, "result": {}}', '{"key": "a"}', '{"key": "a", "result": {"k = 3": NaN}}', "\u00e9"],
)
def test_a_damaged_result_is_reported_and_not_used(place: Path, content: str) -> None:
    path = place / "out/results/knn/colours.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    result = KNN(sets=SETS, pipeline=PIPELINE, ks=(3,)).run(eval_context(place))
    assert not result.rows
    assert f"{path} is damaged" in result.failed["colours"]


def test_a_result_that_is_not_finite_raises_and_is_not_stored(place: Path) -> None:
    with pytest.raises(DataError, match=r"knn/x: k = 3 is not a finite number"):
        eval_context(place).cached_result("knn/x", {}, lambda: {"k = 3": float("nan"), "train": 4})
    assert not (place / "out").exists()


def test_a_set_with_one_class_fails(place: Path) -> None:
    for part in ("train", "test"):
        Image.new("RGB", (32, 32)).save(_made_folder(place / f"data/one/{part}/a") / "0.png")
    sets = {"one": {"type": "ClassFolders", "data_root": "one"}}
    result = KNN(sets=sets, pipeline=PIPELINE, ks=(1,)).run(eval_context(place))
    assert "has 1 class; an accuracy needs two or more" in result.failed["one"]


def test_a_full_disk_stops_all_sets(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise FullDiskError("features.npy: no space left on the disk")

    monkeypatch.setattr(KNN, "evaluate", full)
    with pytest.raises(FullDiskError):
        KNN(sets=SETS, pipeline=PIPELINE, ks=(3,)).run(eval_context(place))


def _made_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
