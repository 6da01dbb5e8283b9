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
from proteus.utils.pictures import PictureNames, add_ending, save_picture
from proteus.visualization import draw_segmentation
from proteus.visualization.class_names import names_and_colours


@HOOKS.register_module()
class SegmentationVisualizationHook(Hook):
    """Write image, prediction and ground truth of every tested image side by side: ``tools/test.py --show-dir DIR``.

    Args:
        out_dir: Folder of the pictures. They have the images' names, in folders inside as the images are
            (:class:`~proteus.utils.pictures.PictureNames`).
        alpha: Weight of the classes' colours over the image.
    """

    def __init__(self, out_dir: str | Path, alpha: float = 0.6) -> None:
        self.out_dir = Path(out_dir)
        self.alpha = alpha
        self._names: PictureNames | None = None

    def before_test(self, runner: Runner) -> None:
        """Forget the names of an earlier test, which may have been of another data set."""
        self._names = None

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw this batch."""
        dataset = runner.test_loop.dataloader.dataset
        meta = getattr(dataset, "metainfo", None) or {}
        classes, palette = names_and_colours(meta, _class_count(runner), key="test_dataloader.dataset")
        if self._names is None:
            self._names = PictureNames(dataset)
        for sample in outputs or ():
            image = rgb_array(sample.img_path)
            prediction = _labels(sample.pred_sem_seg)
            truth = _labels(sample.gt_sem_seg) if "gt_sem_seg" in sample else None
            sheet = draw_segmentation(image, prediction, truth, classes, palette, self.alpha)
            save_picture(sheet, add_ending(self.out_dir, self._names[sample.img_path], ".png"))

    def after_test(self, runner: Runner) -> None:
        """Say where they are."""
        print_log(f"overlays (image, prediction, ground truth) are in {self.out_dir}", "current")


def _class_count(runner: Runner) -> int | None:
    model = getattr(runner, "model", None)
    model = model.module if model is not None and is_model_wrapper(model) else model
    head = getattr(getattr(model, "module", model), "decode_head", None)  # behind test-time augmentation
    return getattr(head[-1] if isinstance(head, ModuleList) else head, "num_classes", None)


def _labels(part: Any) -> np.ndarray:
    labels = part.data.cpu().numpy()
    return labels.reshape(labels.shape[-2:])
