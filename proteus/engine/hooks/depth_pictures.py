"""Depth maps of the images that are tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS
from proteus.visualization import draw_depth_map


@HOOKS.register_module()
class DepthVisualizationHook(Hook):
    """Write a picture of each tested image: image, predicted depth, ground truth and error, with colour bars in metres.

    Args:
        out_dir: Folder to write to; a picture is called after the image and the folder that it is in.
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

    def before_test(self, runner: Runner) -> None:
        """Make the folder."""
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._seen = 0

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """Draw the images of one batch."""
        for image, output in zip(data_batch["images"], outputs or (), strict=True):
            if self._seen % self.interval == 0:
                path = self.out_dir / picture_name(output.get("img_path"), self._seen)
                draw_depth_map(image, output["depth"], path, output.get("gt_depth"), self.max_depth)
            self._seen += 1


def picture_name(img_path: str | None, number: int) -> str:
    """What to call the picture of an image: NYU's file names repeat from scene to scene."""
    if img_path is None:
        return f"{number:06}.png"
    path = Path(img_path)
    return f"{path.parent.name}_{path.stem}.png" if path.parent.name else f"{path.stem}.png"
