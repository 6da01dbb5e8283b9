from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from proteus.engine.hooks import DepthVisualizationHook
from proteus.registry import HOOKS


class Listed:
    """A data set that lists its images."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"img_path": self.paths[index]}


def shown(folder: Path, paths: list[str | None], dataset: Any, interval: int = 1) -> set[str]:
    """Test images in batches of two; returns the pictures' places below ``folder``."""
    hook = HOOKS.build({"type": "DepthVisualizationHook", "out_dir": str(folder), "interval": interval})
    runner: Any = SimpleNamespace(test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)))
    hook.before_test(runner)
    depth = torch.rand(6, 8)
    for start in range(0, len(paths), 2):
        outputs = [{"depth": depth, "gt_depth": depth, "img_path": path} for path in paths[start : start + 2]]
        hook.after_test_iter(runner, start, {"inputs": [torch.rand(3, 12, 16)] * len(outputs)}, outputs)
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_pictures_of_scenes_with_equal_file_names_lie_side_by_side(tmp_path: Path) -> None:
    paths = [f"/data/{scene}/rgb_00001.jpg" for scene in ("k", "l", "m")]
    assert shown(tmp_path / "a/b", paths, Listed(paths), interval=2) == {"k/rgb_00001.png", "m/rgb_00001.png"}


def test_no_picture_is_written_over_another(tmp_path: Path) -> None:
    # Equal names in equally named folders; names that differ in their ending, or in where a "_" stands.
    paths = ["/d/one/rgb/1.jpg", "/d/two/rgb/1.jpg", "/d/one/a.jpg", "/d/one/a.png", "/d/x/y_z.jpg", "/d/x_y/z.jpg"]
    names = {"one/rgb/1.png", "two/rgb/1.png", "one/a.jpg.png", "one/a.png.png", "x/y_z.png", "x_y/z.png"}
    assert shown(tmp_path / "listed", paths, Listed(paths)) == names
    assert len(shown(tmp_path / "unlisted", paths, [None] * 6)) == 6


def test_images_without_a_name_are_numbered_on_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(2):
        monkeypatch.setattr("proteus.engine.hooks.depth_visualization.get_dist_info", lambda rank=rank: (rank, 2))
        found = shown(tmp_path, [None] * 3, [None] * 6)
    assert found == {f"{number:06}.png" for number in range(6)}


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="interval=0"):
        DepthVisualizationHook("x", interval=0)
