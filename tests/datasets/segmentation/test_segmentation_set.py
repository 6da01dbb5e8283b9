from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image
from segmentation_runs import write_scenes

from proteus.datasets import SampleKey, SegmentationSet
from proteus.structures import DataError

pytest.importorskip("mmseg")

PIPELINE = [
    {"type": "proteus.LoadBGRImage"},
    {"type": "LoadAnnotations"},
    {"type": "proteus.CheckLabels", "num_classes": 150},
    {"type": "RandomResize", "scale": (224, 56), "ratio_range": (0.5, 2.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (32, 32), "cat_max_ratio": 0.75},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PhotoMetricDistortion"},
    {"type": "PackSegInputs"},
]


def ade20k(root: Path, **more: Any) -> SegmentationSet:
    init_default_scope("mmseg")
    prefix = {"img_path": "images/training", "seg_map_path": "annotations/training"}
    inner = {"type": "ADE20KDataset", "data_root": str(root), "data_prefix": prefix, "pipeline": PIPELINE, **more}
    return SegmentationSet(ConfigDict(inner))


def test_samples_depend_only_on_their_key(tmp_path: Path) -> None:
    data = ade20k(write_scenes(tmp_path / "ade"))
    assert len(data) == 8
    assert len(data.metainfo["classes"]) == 150
    first = data[SampleKey(0, 0, 3)]
    np.random.seed(99)
    data[SampleKey(0, 0, 2)]
    again = data[SampleKey(0, 0, 3)]
    assert torch.equal(first["inputs"], again["inputs"])
    assert torch.equal(first["data_samples"].gt_sem_seg.data, again["data_samples"].gt_sem_seg.data)
    others = [data[SampleKey(0, epoch, 3)]["inputs"] for epoch in (1, 2, 3)]
    assert not all(torch.equal(first["inputs"], other) for other in others)


def test_label_0_is_ignored_and_others_are_shifted(tmp_path: Path) -> None:
    data = ade20k(write_scenes(tmp_path / "ade"), pipeline=[*PIPELINE[:3], PIPELINE[-1]])
    truth = data[0]["data_samples"].gt_sem_seg.data.numpy()[0]
    file = np.asarray(Image.open(tmp_path / "ade/annotations/training/scene_000.png"))
    assert set(np.unique(file)) <= {0, 1, 4, 13, 150}
    assert np.array_equal(truth[file > 0], file[file > 0] - 1)
    assert (truth[file == 0] == 255).all()


def test_some_classes_of_the_set(tmp_path: Path) -> None:
    steps = [*PIPELINE[:2], {**PIPELINE[2], "num_classes": 1}, PIPELINE[-1]]
    root = write_scenes(tmp_path / "ade")
    for path in root.glob("annotations/*/*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 150, 0, mask)).save(path)
    data = ade20k(root, metainfo={"classes": ("person",)}, pipeline=steps)
    truth = data[0]["data_samples"].gt_sem_seg.data.numpy()[0]
    file = np.asarray(Image.open(root / "annotations/training/scene_000.png"))
    assert np.array_equal(truth, np.where(file == 13, 0, 255))
    assert (truth == 0).any()


def test_errors_at_start(tmp_path: Path) -> None:
    root = write_scenes(tmp_path / "ade")
    mask = root / "annotations/training/scene_004.png"
    good = mask.read_bytes()
    Image.fromarray(np.full((72, 60), 151, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"scene_004\.png: label 151"):
        ade20k(root)
    Image.fromarray(np.full((60, 72), 1, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"scene_004\.png: the mask is 72x60 px.*60x72"):
        ade20k(root)
    mask.unlink()
    with pytest.raises(DataError, match=r"scene_004\.jpg: its mask .* is missing"):
        ade20k(root)
    ade20k(root, indices=4)  # with indices, unused masks are allowed
    mask.write_bytes(good)
    (root / "images/training/scene_004.jpg").unlink()
    with pytest.raises(DataError, match=r"scene_004\.png: the image of this mask is missing"):
        ade20k(root)


def test_errors_while_loading_name_the_file(tmp_path: Path) -> None:
    data = ade20k(write_scenes(tmp_path / "ade"))
    image = tmp_path / "ade/images/training/scene_001.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cannot read .*scene_001\.jpg \("):
        data[SampleKey(0, 0, 1)]
    mask = tmp_path / "ade/annotations/training/scene_002.png"
    Image.fromarray(np.full((72, 60), 200, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"scene_002\.png: label 200"):
        data[2]
