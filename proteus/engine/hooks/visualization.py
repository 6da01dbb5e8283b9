"""Pictures of tested images: ``proteus test --show-dir DIR``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.nn import ModuleList

from proteus.registry import HOOKS
from proteus.utils.images import rgb_array
from proteus.utils.models import unwrap_model
from proteus.utils.pictures import PictureNames, add_ending, save_picture
from proteus.visualization import draw_depth_map, draw_segmentation
from proteus.visualization.class_names import names_and_colours


class VisualizationHook(Hook, ABC):
    """Base of hooks that draw a picture of each tested image.

    Configs have one as ``default_hooks.visualization``; ``proteus test --show-dir DIR`` sets ``draw`` and ``out_dir``.
    Pictures are named after the images, in the same subfolders (:class:`~proteus.utils.pictures.PictureNames`).

    Args:
        draw: Whether to draw pictures.
        out_dir: Folder of the pictures.
        interval: Draw every ``interval``-th image.

    Raises:
        ValueError: ``interval`` is below 1, or ``draw`` is set without ``out_dir``.
    """

    def __init__(self, draw: bool = False, out_dir: str | Path | None = None, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f"{type(self).__name__}.interval={interval}: write 1 or more")
        if draw and out_dir is None:
            raise ValueError(f"{type(self).__name__}.out_dir=None: write a folder for the pictures")
        self.draw, self.out_dir, self.interval = draw, Path(out_dir or "."), interval
        self._count = 0
        self._names = PictureNames(())

    def before_test(self, runner: Runner) -> None:
        """Create the folder and choose the pictures' names."""
        if self.draw:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._count = 0
            self._names = PictureNames(runner.test_loop.dataloader.dataset)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the images of a batch."""
        if not self.draw:
            return
        for index, output in enumerate(outputs or ()):
            if self._count % self.interval == 0:
                self.draw_image(runner, data_batch, index, output)
            self._count += 1

    def after_test(self, runner: Runner) -> None:
        """Log the folder."""
        if self.draw:
            print_log(f"pictures of the tested images are in {self.out_dir}", "current")

    @abstractmethod
    def draw_image(self, runner: Runner, data_batch: Any, index: int, output: Any) -> None:
        """Draw one image.

        Args:
            runner: The runner.
            data_batch: The batch.
            index: Position of the image in the batch.
            output: The model's output for it.
        """

    def path(self, img_path: str | None) -> Path:
        """Return the file of an image's picture; images without a path are numbered."""
        if img_path is None:
            rank, world_size = get_dist_info()
            # The image's index, as MMEngine distributes images to ranks.
            return add_ending(self.out_dir, Path(f"{self._count * world_size + rank:06}"), ".png")
        return add_ending(self.out_dir, self._names[img_path], ".png")


@HOOKS.register_module()
class SegmentationVisualizationHook(VisualizationHook):
    """Draw image, prediction and ground truth of each tested image side by side.

    Args:
        draw: Whether to draw pictures; set by ``proteus test --show-dir``.
        out_dir: Folder of the pictures; set by ``proteus test --show-dir``.
        interval: Draw every ``interval``-th image.
        alpha: Opacity of the classes' colours over the image.

    Raises:
        ValueError: ``interval`` is below 1, or ``draw`` is set without ``out_dir``.
    """

    def __init__(
        self, draw: bool = False, out_dir: str | Path | None = None, interval: int = 1, alpha: float = 0.6
    ) -> None:
        super().__init__(draw, out_dir, interval)
        self.alpha = alpha

    def draw_image(self, runner: Runner, data_batch: Any, index: int, output: Any) -> None:
        """Draw one image from mmseg's data sample."""
        meta = getattr(runner.test_loop.dataloader.dataset, "metainfo", None) or {}
        classes, palette = names_and_colours(meta, _num_classes(runner), key="test_dataloader.dataset")
        prediction = _labels(output.pred_sem_seg)
        truth = _labels(output.gt_sem_seg) if "gt_sem_seg" in output else None
        sheet = draw_segmentation(rgb_array(output.img_path), prediction, truth, classes, palette, self.alpha)
        save_picture(sheet, self.path(output.img_path))


@HOOKS.register_module()
class DepthVisualizationHook(VisualizationHook):
    """Draw image, predicted depth, ground truth and error of each tested image, with colour bars in metres.

    Args:
        draw: Whether to draw pictures; set by ``proteus test --show-dir``.
        out_dir: Folder of the pictures; set by ``proteus test --show-dir``.
        interval: Draw every ``interval``-th image.
        max_depth: Metres at the upper end of the colours; by default each picture's largest true depth.

    Raises:
        ValueError: ``interval`` is below 1, or ``draw`` is set without ``out_dir``.
    """

    def __init__(
        self,
        draw: bool = False,
        out_dir: str | Path | None = None,
        interval: int = 1,
        max_depth: float | None = None,
    ) -> None:
        super().__init__(draw, out_dir, interval)
        self.max_depth = max_depth

    def draw_image(self, runner: Runner, data_batch: Any, index: int, output: Any) -> None:
        """Draw one image from its predicted ``depth`` and, if there is one, ``gt_depth``."""
        path = self.path(output.get("img_path"))
        draw_depth_map(data_batch["inputs"][index], output["depth"], path, output.get("gt_depth"), self.max_depth)


def _num_classes(runner: Runner) -> int | None:
    model = getattr(runner, "model", None)
    model = unwrap_model(model)
    head = getattr(getattr(model, "module", model), "decode_head", None)  # test-time augmentation wraps the model
    return getattr(head[-1] if isinstance(head, ModuleList) else head, "num_classes", None)


def _labels(part: Any) -> np.ndarray:
    labels = part.data.cpu().numpy()
    return labels.reshape(labels.shape[-2:])
