from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import write_images

from proteus.datasets import ConcatProxySet
from proteus.datasets.shards.packing import pack
from proteus.datasets.teacher_cache import dataset_fingerprint, differences, plain
from proteus.registry import DATASETS

STEPS = [
    {"type": "LoadImage"},
    {"type": "RandomResizedCrop", "scale": 56, "crop_ratio_range": (0.08, 1.0)},
    {"type": "ToTensor"},
    {"type": "UniformMask", "ratio": 0.5},
    {"type": "PackInputs"},
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("set"), 12)


def folder(images: Path, **more: Any) -> dict[str, Any]:
    steps = [{**step, "type": f"proteus.{step['type']}"} for step in more.pop("pipeline", STEPS)]
    return {"type": "proteus.ImageFolder", "data_root": str(images), "pipeline": steps, **more}


def identity(config: dict[str, Any]) -> dict[str, Any]:
    return dataset_fingerprint(config, DATASETS.build(config))


def changed(config: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [line.split(":")[0] for line in differences(identity(config), identity(other))]


def steps(position: int, **more: Any) -> list[dict[str, Any]]:
    return [{**step, **more} if number == position else step for number, step in enumerate(STEPS)]


def test_changes_without_effect_on_views(images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(images, moved)
    first = folder(images)
    assert changed(first, folder(moved)) == []
    assert changed(first, folder(images, split="all", indices=12)) == []
    assert changed(first, folder(images, pipeline=steps(0, cache_in_memory=True))) == []
    assert changed(first, folder(images, pipeline=steps(3, ratio=0.7))) == []
    assert changed(first, folder(images, pipeline=[*STEPS[:3], {"type": "BlockMask"}, STEPS[4]])) == []
    labelled = {**first, "type": "proteus.LabelledFolder"}
    assert changed(labelled, {**labelled, "num_classes": 2}) == []


def test_how_shards_are_copied_has_no_effect_on_views(images: Path, tmp_path: Path) -> None:
    pack(images, tmp_path / "shards", report=lambda _: None)
    first = {**folder(images), "type": "proteus.WebShards", "data_root": str(tmp_path / "shards")}
    other = {**first, "cache_gb": 5.0, "cache_dir": str(tmp_path), "read_ahead": False}
    assert changed(first, other) == []
    # Caches of earlier versions have these keys.
    for key, before in (("dataset", {"cache_gb": 5.0}), ("dataset", {"datasets": {"a": {"cache_gb": 5.0}}})):
        now = {"datasets": {"a": {}}} if "datasets" in before else {}
        assert differences({key: before}, {key: now}) == []
    assert differences({"teacher": {"num_classes": 5}}, {"teacher": {}}) != []


def test_changes_of_views_are_named(images: Path, tmp_path: Path) -> None:
    first = folder(images)
    assert changed(first, folder(images, pipeline=steps(1, scale=70))) == ["transform[1].scale"]
    assert changed(first, folder(images, pipeline=steps(1, crop_ratio_range=(0.5, 1.0)))) == [
        "transform[1].crop_ratio_range"
    ]
    longer = [STEPS[0], {"type": "RandomFlip"}, *STEPS[1:]]
    (line,) = differences(identity(first), identity(folder(images, pipeline=longer)))
    assert line == (
        "transform: the cache was built with LoadImage > RandomResizedCrop > ToTensor, this run has "
        "LoadImage > RandomFlip > RandomResizedCrop > ToTensor"
    )
    assert changed(first, folder(images, indices=11)) == ["images.count", "images.names"]
    renamed = tmp_path / "renamed"
    shutil.copytree(images, renamed)
    (renamed / "c/000.png").rename(renamed / "c/0000.png")
    assert changed(first, folder(renamed)) == ["images.names"]


def test_concatenated_sets(images: Path) -> None:
    def merged(**more: Any) -> dict[str, Any]:
        sets = {"a": folder(images), "b": folder(images, indices=4), **more.pop("sets", {})}
        return {"type": "proteus.ConcatProxySet", "datasets": sets, **more}

    assert isinstance(DATASETS.build(merged()), ConcatProxySet)
    assert changed(merged(), merged()) == []
    assert "images.names" in changed(merged(), merged(repeats={"b": 0.5}))
    assert "images.names" in changed(merged(), merged(sets={"b": folder(images, indices=[0, 1, 2, 5])}))
    other = folder(images, indices=4, pipeline=steps(1, scale=70))
    assert changed(merged(), merged(sets={"b": other})) == ["transform.b[1].scale"]


def test_messages_of_differences() -> None:
    assert differences({"a": [1, 2]}, {"a": [1, 2]}) == []
    assert differences({"teacher": {"mean": [0.5, 0.5]}}, {"teacher": {"mean": [0.4, 0.5]}}) == [
        "teacher.mean: the cache was built with [0.5, 0.5], this run has [0.4, 0.5]"
    ]
    assert differences({}, {"seed": 3}) == ["seed: the cache was built with nothing, this run has 3"]
    assert differences({"w": "ab" * 32}, {"w": "cd" * 32}) == [
        "w: the cache was built with abababababab, this run has cdcdcdcdcdcd"
    ]


def test_plain_values() -> None:
    assert plain({"type": "proteus.ResizeEdge", "scale": (1, 2), "_scope_": "proteus"}) == {
        "type": "ResizeEdge",
        "scale": [1, 2],
    }
