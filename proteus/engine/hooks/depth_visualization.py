"""Depth maps of the images that are tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS
from proteus.utils.pictures import PictureNames, add_ending
from proteus.visualization import draw_depth_map


@HOOKS.register_module()
class DepthVisualizationHook(Hook):
    """Write a picture of each tested image: image, predicted depth, ground truth and error, with colour bars in metres.

    Args:
        out_dir: Folder to write to. Pictures have the images' names, in folders inside as the images are
            (:class:`~proteus.utils.pictures.PictureNames`); images without a name are numbered.
        interval: Draw every so many images.
        max_depth: Metres at the upper end of the colours; by default each picture's largest true depth.

    Raises:
        ValueError: ``interval`` is below 1.
    """

    def __init__(self, out_dir: str, interval: int = 1, max_depth: float | None = None) -> None:
        if interval < 1:
            raise ValueError(f"DepthVisualizationHook.interval={interval}: write 1 or more")
        self.out_dir, self.interval, self.max_depth = Path(out_dir), interval, max_depth
        self._seen = 0
        self._names = PictureNames(())

    def before_test(self, runner: Runner) -> None:
        """Make the folder, and name the pictures."""
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._seen = 0
        self._names = PictureNames(runner.test_loop.dataloader.dataset)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """Draw the images of one batch."""
        for image, output in zip(data_batch["inputs"], outputs or (), strict=True):
            if self._seen % self.interval == 0:
                path = add_ending(self.out_dir, self._name(output.get("img_path")), ".png")
                draw_depth_map(image, output["depth"], path, output.get("gt_depth"), self.max_depth)
            self._seen += 1

    def _name(self, img_path: str | None) -> Path:
        if img_path is None:
            rank, world = get_dist_info()
            return Path(f"{self._seen * world + rank:06}")  # the image's position, as MMEngine deals images to ranks
        return self._names[img_path]
