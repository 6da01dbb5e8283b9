"""Overlays of a tested segmentation model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn import ModuleList

from proteus.registry import HOOKS
from proteus.utils.images import rgb_array
from proteus.utils.pictures import save_picture
from proteus.visualization import draw_segmentation
from proteus.visualization.class_names import names_and_colours


@HOOKS.register_module()
class ShowSegmentationHook(Hook):
    """Write image, prediction and ground truth of every tested image side by side: ``tools/test.py --show-dir DIR``.

    Args:
        out_dir: Folder of the pictures. They have the images' names, in folders inside as the images are.
        alpha: Weight of the classes' colours over the image.
    """

    def __init__(self, out_dir: str | Path, alpha: float = 0.6) -> None:
        self.out_dir = Path(out_dir)
        self.alpha = alpha

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw this batch."""
        dataset = runner.test_loop.dataloader.dataset
        meta = getattr(dataset, "metainfo", None) or {}
        classes, palette = names_and_colours(meta, _class_count(runner), key="test_dataloader.dataset")
        for sample in outputs or ():
            image = rgb_array(sample.img_path)
            prediction = _labels(sample.pred_sem_seg)
            truth = _labels(sample.gt_sem_seg) if "gt_sem_seg" in sample else None
            sheet = draw_segmentation(image, prediction, truth, classes, palette, self.alpha)
            path = self.out_dir / _inside(Path(sample.img_path), dataset).with_suffix(".png")
            save_picture(sheet, path)

    def after_test(self, runner: Runner) -> None:
        """Say where they are."""
        print_log(f"overlays (image, prediction, ground truth) are in {self.out_dir}", "current")


def _class_count(runner: Runner) -> int | None:
    model = getattr(runner, "model", None)
    model = model.module if model is not None and is_model_wrapper(model) else model
    head = getattr(getattr(model, "module", model), "decode_head", None)  # behind test-time augmentation
    return getattr(head[-1] if isinstance(head, ModuleList) else head, "num_classes", None)


def _inside(path: Path, dataset: Any) -> Path:
    """An image's place in its data set: mmseg lists folders inside, where two images may have one name."""
    prefix = getattr(getattr(dataset, "inner", dataset), "data_prefix", {}).get("img_path")
    return path.relative_to(prefix) if prefix and path.is_relative_to(prefix) else Path(path.name)


def _labels(part: Any) -> np.ndarray:
    labels = part.data.cpu().numpy()
    return labels.reshape(labels.shape[-2:])
