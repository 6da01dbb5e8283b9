"""Recall of boxes, and predictions in COCO's format of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from proteus.evaluation.metrics.checked import CheckedMetric, check_values_finite
from proteus.registry import METRICS
from proteus.structures import DataError
from proteus.utils.atomic import write_json


@METRICS.register_module()
class BoxRecall(CheckedMetric):
    """``box/recall50``: percentage of boxes found, by a prediction of their class with an IoU of 0.5 or more.

    Predictions are matched from the highest score down, each to the free box that it overlaps most. COCO's AP needs
    pycocotools, which reads ``results_file``.

    Args:
        results_file: JSON file to write the predictions to, in COCO's format of results.
        **metric: Arguments of MMEngine's metrics.
    """

    default_prefix = "box"

    def __init__(self, results_file: str | None = None, **metric: Any) -> None:
        super().__init__(**metric)
        self.results_file = results_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Match the predictions of each image (see :meth:`FCOSDetector.forward`) with its boxes."""
        for sample in data_samples:
            sample = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in sample.items()}
            check_values_finite(sample["boxes"], f"image {sample['image_id']}: predicted boxes")
            found = matches(sample["boxes"], sample["labels"], sample["gt_boxes"], sample["gt_labels"])
            self.results.append((found, len(sample["gt_boxes"]), self._as_coco(sample)))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return ``recall50`` in percent, and write ``results_file``."""
        if self.results_file is not None:
            lines = [line for _, _, predictions in results for line in predictions]
            Path(self.results_file).parent.mkdir(parents=True, exist_ok=True)
            write_json(self.results_file, lines)
        total = sum(count for _, count, _ in results)
        if not total:
            raise DataError("BoxRecall: no image of the data set has boxes")
        return {"recall50": 100 * sum(found for found, _, _ in results) / total}

    def _as_coco(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        numbers = self.dataset_meta["category_ids"]
        return [
            {
                "image_id": sample["image_id"],
                "category_id": numbers[label],
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
            }
            for (left, top, right, bottom), label, score in zip(
                sample["boxes"].tolist(), sample["labels"].tolist(), sample["scores"].tolist(), strict=True
            )
        ]


def matches(boxes: Tensor, labels: Tensor, gt_boxes: Tensor, gt_labels: Tensor, threshold: float = 0.5) -> int:
    """Count the boxes of one image that predictions find.

    Args:
        boxes: Predictions ``(P, 4)``, best first: left, top, right, bottom.
        labels: Their classes ``(P,)``.
        gt_boxes: Boxes to find ``(N, 4)``.
        gt_labels: Their classes ``(N,)``.
        threshold: Least IoU of a match.
    """
    overlaps = box_iou(boxes, gt_boxes) * (labels[:, None] == gt_labels)
    free = torch.ones(len(gt_boxes), dtype=torch.bool)
    for row in overlaps if len(gt_boxes) else ():
        best, index = (row * free).max(dim=0)
        if best >= threshold:
            free[index] = False
    return int((~free).sum())
