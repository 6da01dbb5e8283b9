"""Features on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.frozen.feature_store import FeatureStore, Split, open_split
from proteus.models.backbones import BackboneSpec, locate_backbone

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "Resize", "size": 32},
    {"type": "CenterCrop", "size": 32},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]


def split_of(folder: Path, part: str = "trainval", **config: Any) -> Split:
    return open_split({"type": "ClassFolders", "data_root": str(folder), "split": part, "pipeline": PIPELINE, **config})


def store_of(root: Path, name: str = "random:test_vit", **options: Any) -> FeatureStore:
    return FeatureStore(root, locate_backbone(name, img_size=32), batch_size=5, num_workers=0, **options)


def images_of(split: Split, spec: BackboneSpec) -> torch.Tensor:
    images = torch.stack([split.dataset[index]["image"] for index in range(len(split.dataset))]) / 255
    return (images - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)


@torch.no_grad()
def test_features_are_those_of_the_backbone_on_normalised_images(classes: Callable[..., Path], tmp_path: Path) -> None:
    split, store = split_of(classes()), store_of(tmp_path / "cache")
    images, model = images_of(split, store.spec), store.spec.build()
    np.testing.assert_allclose(store.table(split, "s").cls, model(images).cls, atol=1e-5)
    levels = model.levels(images, range(-4, 0))
    probe = store.table(split, "s", "probe")
    for position, level in enumerate(levels):
        np.testing.assert_allclose(probe.features[:, position], level.cls, atol=1e-5)
    np.testing.assert_allclose(probe.features[:, -1], levels[-1].patches.mean(1), atol=1e-5)
    assert probe.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8


@torch.no_grad()
def test_a_cnn_gives_its_pooled_and_its_mean_features(classes: Callable[..., Path], tmp_path: Path) -> None:
    split, store = split_of(classes()), store_of(tmp_path / "cache", "random:test_resnet")
    features = store.spec.build()(images_of(split, store.spec))
    table = store.table(split, "s", "probe")
    np.testing.assert_allclose(table.features[:, 0], features.cls, atol=1e-5)
    np.testing.assert_allclose(table.features[:, 1], features.patches.mean(1), atol=1e-5)


def test_a_second_call_reads_the_cache_and_what_matters_makes_a_new_one(
    classes: Callable[..., Path], tmp_path: Path
) -> None:
    folder = classes()
    store = store_of(tmp_path / "cache")
    first = store.table(split_of(folder), "s")
    marker = first.folder / "features.npy"
    before = marker.stat().st_mtime_ns
    assert store.table(split_of(folder), "s").folder == first.folder
    assert marker.stat().st_mtime_ns == before
    others = [
        store.table(split_of(folder), "s", mean=(0.5, 0.5, 0.5)),
        store.table(split_of(folder, pipeline=[PIPELINE[0], {"type": "RandomFlip"}, *PIPELINE[1:]]), "s"),
        store_of(tmp_path / "cache", "random:test_vit:1").table(split_of(folder), "s"),
        store.table(split_of(folder, "test"), "s"),
    ]
    (folder / "train/class0/00.png").rename(folder / "train/class0/99.png")
    others.append(store.table(split_of(folder), "s"))
    assert len({table.folder for table in [first, *others]}) == 6


def test_cls_tokens_come_out_of_a_table_that_has_more(classes: Callable[..., Path], tmp_path: Path) -> None:
    split, store = split_of(classes()), store_of(tmp_path / "cache")
    probe = store.table(split, "s", "probe")
    table = store.table(split, "s")
    assert table.folder == probe.folder
    np.testing.assert_array_equal(table.cls, probe.features[:, -2])


def test_an_interrupted_extraction_goes_on_where_it_stopped(
    classes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classes()
    whole = np.array(store_of(tmp_path / "whole").table(split_of(folder), "s").features)
    monkeypatch.setattr("proteus.evaluation.frozen.feature_store._SECONDS_BETWEEN_MARKS", 0.0)
    damaged = folder / "train/class1/05.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:50])
    store = store_of(tmp_path / "cache")
    with pytest.raises(CorruptImageError, match=r"class1/05\.png"):
        store.table(split_of(folder), "s")
    (rows,) = (tmp_path / "cache").glob("*/rows.json")
    assert json.loads(rows.read_text())["rows"] == 10
    damaged.write_bytes(content)
    read: list[int] = []
    split = split_of(folder)
    kind = type(split.dataset)
    original = kind.read
    monkeypatch.setattr(kind, "read", lambda self, i, e: (read.append(i), original(self, i, e))[1])
    np.testing.assert_allclose(store.table(split, "s").features, whole, atol=1e-6)
    assert read == list(range(10, 24))


def test_features_that_are_no_numbers_name_the_image(classes: Callable[..., Path], tmp_path: Path) -> None:
    store = store_of(tmp_path / "cache")
    store._model = store.spec.build()
    with torch.no_grad():
        store._model.vit.cls_token[:] = float("nan")
    with pytest.raises(ValueError, match=r"not finite.*class0/00\.png"):
        store.table(split_of(classes()), "s")


def test_a_set_without_labels_is_refused(classes: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="gives no labels"):
        open_split({"type": "ImageFolder", "data_root": str(classes()), "pipeline": PIPELINE, "split": "all"})
