"""The feature store: contents, cache keys, resuming, damage and concurrent processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import talk_to

from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.features.store import FeatureStore, Split, open_split
from proteus.models.backbones import BackboneSpec, locate_backbone
from proteus.structures import DataError

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "ResizeEdge", "scale": 32},
    {"type": "CenterCrop", "crop_size": 32},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]


def split_of(folder: Path, part: str = "trainval", **config: Any) -> Split:
    return open_split({"type": "ClassFolders", "data_root": str(folder), "split": part, "pipeline": PIPELINE, **config})


def store_of(root: Path, name: str = "random:test_vit", **options: Any) -> FeatureStore:
    return FeatureStore(root, locate_backbone(name, img_size=32), batch_size=5, num_workers=0, **options)


def images_of(split: Split, spec: BackboneSpec) -> torch.Tensor:
    images = torch.stack([split.dataset[index]["inputs"] for index in range(len(split.dataset))]) / 255
    return (images - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)


@torch.no_grad()
def test_features_equal_the_backbones_on_normalised_images(classes: Callable[..., Path], tmp_path: Path) -> None:
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
def test_a_cnn_has_pooled_and_mean_patch_features(classes: Callable[..., Path], tmp_path: Path) -> None:
    split, store = split_of(classes()), store_of(tmp_path / "cache", "random:test_resnet")
    features = store.spec.build()(images_of(split, store.spec))
    table = store.table(split, "s", "probe")
    np.testing.assert_allclose(table.features[:, 0], features.cls, atol=1e-5)
    np.testing.assert_allclose(table.features[:, 1], features.patches.mean(1), atol=1e-5)


def test_a_second_call_reads_the_cache_and_other_inputs_have_other_tables(
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


def test_cls_tokens_are_read_from_a_probe_table(classes: Callable[..., Path], tmp_path: Path) -> None:
    split, store = split_of(classes()), store_of(tmp_path / "cache")
    probe = store.table(split, "s", "probe")
    table = store.table(split, "s")
    assert table.folder == probe.folder
    np.testing.assert_array_equal(table.cls, probe.features[:, -2])


def test_an_interrupted_extraction_resumes(
    classes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classes()
    expected = np.array(store_of(tmp_path / "expected").table(split_of(folder), "s").features)
    monkeypatch.setattr("proteus.evaluation.features.extraction.SECONDS_BETWEEN_MARKS", 0.0)
    damaged = folder / "train/class1/05.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:50])
    store = store_of(tmp_path / "cache")
    with pytest.raises(CorruptImageError, match=r"class1/05\.png"):
        store.table(split_of(folder), "s")
    (rows,) = (tmp_path / "cache").glob("*/rows.json")
    assert json.loads(rows.read_text())["rows"] == 10
    damaged.write_bytes(content)  # the rows on disk stay valid
    read: list[int] = []
    split = split_of(folder)
    kind = type(split.dataset)
    original = kind.read
    monkeypatch.setattr(kind, "read", lambda self, i, e: (read.append(i), original(self, i, e))[1])
    np.testing.assert_allclose(store.table(split, "s").features, expected, atol=1e-6)
    assert read == list(range(10, 24))


def test_the_error_for_nan_features_names_the_image(classes: Callable[..., Path], tmp_path: Path) -> None:
    store = store_of(tmp_path / "cache")
    store._model = store.spec.build()
    with torch.no_grad():
        store._model.vit.cls_token[:] = float("nan")
    with pytest.raises(ValueError, match=r"not finite.*class0/00\.png"):
        store.table(split_of(classes()), "s")


def test_a_set_without_labels_raises(classes: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="has no labels"):
        open_split({"type": "ImageFolder", "data_root": str(classes()), "pipeline": PIPELINE, "split": "all"})


@pytest.mark.parametrize("rows", [3, 10, 24])
def test_a_changed_image_file_is_encoded_again(
    classes: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int
) -> None:
    folder = classes()
    first = store_of(tmp_path / "cache").table(split_of(folder), "s")
    before = np.array(first.features)
    path = sorted((folder / "train").rglob("*.png"))[rows - 1]
    Image.open(path).rotate(180).save(path)
    again = store_of(tmp_path / "cache").table(split_of(folder), "s")
    assert again.folder == first.folder
    changed = ~np.isclose(again.features, before, atol=1e-5).all(axis=(1, 2))
    assert np.flatnonzero(changed).tolist() == [rows - 1]
    assert "image files have changed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["features.npy", "rows.json", "labels.npy"])
@pytest.mark.parametrize("how", ["empty", "cut", "gone"])
def test_a_damaged_table_raises(classes: Callable[..., Path], tmp_path: Path, name: str, how: str) -> None:
    split = split_of(classes())
    path = store_of(tmp_path / "cache").table(split, "s").folder / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else content[: len(content) // 2])
    if (name, how) == ("rows.json", "gone"):  # as after a kill before the first mark
        store_of(tmp_path / "cache").table(split, "s")
        return
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        store_of(tmp_path / "cache").table(split, "s")


def test_labels_of_another_set_raise(classes: Callable[..., Path], tmp_path: Path) -> None:
    split = split_of(classes())
    path = store_of(tmp_path / "cache").table(split, "s").folder / "labels.npy"
    np.save(path, np.load(path)[::-1])
    with pytest.raises(DataError, match=r"labels\.npy is damaged \(its labels are not those of the data set"):
        store_of(tmp_path / "cache").table(split, "s")


def test_zero_rows_of_an_earlier_version_are_extracted_again(
    classes: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two concurrent processes left rows of zeros that were counted as complete."""
    split = split_of(classes())
    table = store_of(tmp_path / "cache").table(split, "s")
    right = np.array(table.features)
    wrong = right.copy()
    wrong[5:10] = 0
    np.save(table.folder / "features.npy", wrong)
    (table.folder / "rows.json").write_text(json.dumps({"rows": 24}))
    np.testing.assert_allclose(store_of(tmp_path / "cache").table(split, "s").features, right, atol=1e-6)
    assert "without checksums, are extracted again" in capsys.readouterr().out


def test_a_table_in_a_read_only_folder_is_read(classes: Callable[..., Path], tmp_path: Path) -> None:
    split = split_of(classes())
    table = store_of(tmp_path / "cache").table(split, "s")
    (table.folder / ".lock").unlink()
    (table.folder / ".lock").mkdir()  # taking the lock would fail
    np.testing.assert_array_equal(store_of(tmp_path / "cache").table(split, "s").features, table.features)


HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_store import split_of, store_of
from mmengine.registry import init_default_scope
init_default_scope("proteus")
store = store_of(Path(sys.argv[1]))
encode = store._encode
def slow(images, tokens):
    print("encoding", flush=True)
    sys.stdin.readline()
    return encode(images, tokens)
store._encode = slow
store.table(split_of(Path(sys.argv[2])), "s")
"""


def test_the_second_of_two_processes_waits_and_reads_the_table(
    classes: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = classes()
    expected = np.array(store_of(tmp_path / "expected").table(split_of(folder), "s").features)
    with talk_to(HOLD, tmp_path / "cache", folder, Path(__file__).parent) as (first, stream):
        assert stream.readline() == "encoding\n"
        stream.write("on\n" * 5)
        second = store_of(tmp_path / "cache")
        extracted: list[int] = []
        encode = second._encode
        monkeypatch.setattr(second, "_encode", lambda *args: (extracted.append(1), encode(*args))[1])
        timer = threading.Timer(0.5, stream.flush)
        timer.start()
        table = second.table(split_of(folder), "s")
        timer.join()
    np.testing.assert_allclose(table.features, expected, atol=1e-6)
    assert not extracted
    assert f"in use by extracting the features of s, process {first.pid} on " in capfd.readouterr().err
