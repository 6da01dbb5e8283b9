"""mmseg's metrics for a mask that our data set loads, against values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from PIL import Image

from proteus.datasets import SegmentationSet
from proteus.registry import METRICS

pytest.importorskip("mmseg")


def test_label_0_is_ignored(tmp_path: Path) -> None:
    """Three of the five labelled pixels are correct; the sixth is ignored."""
    init_default_scope("mmseg")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images/a.jpg")
    Image.fromarray(np.array([[0, 1, 1], [2, 2, 3]], np.uint8)).save(tmp_path / "masks/a.png")
    steps = ["LoadImageFromFile", "LoadAnnotations", "PackSegInputs"]
    inner = {
        "type": "ADE20KDataset",
        "data_root": str(tmp_path),
        "data_prefix": {"img_path": "images", "seg_map_path": "masks"},
        "pipeline": [{"type": step} for step in steps],
    }
    data = SegmentationSet(ConfigDict(inner))
    sample = data[0]["data_samples"].to_dict()
    sample["pred_sem_seg"] = {"data": torch.tensor([[[0, 0, 1], [1, 1, 1]]])}
    metric = METRICS.build({"type": "IoUMetric", "iou_metrics": ["mIoU"]})
    metric.dataset_meta = data.metainfo
    metric.process({}, [sample])
    found = metric.evaluate(1)
    # Intersections over unions 1/2, 2/4, 0/1; accuracies 1/2, 2/2, 0/1; 147 absent classes are skipped.
    assert found == pytest.approx({"mIoU": 100 / 3, "mAcc": 50.0, "aAcc": 60.0}, abs=0.01)
