from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proteus.engine.hooks import DepthVisualizationHook
from proteus.engine.hooks.depth_pictures import picture_name
from proteus.registry import HOOKS


def test_pictures_of_scenes_with_equal_file_names_lie_side_by_side(tmp_path: Path) -> None:
    hook = HOOKS.build({"type": "DepthVisualizationHook", "out_dir": str(tmp_path / "a/b"), "interval": 2})
    hook.before_test(None)
    depth = torch.rand(6, 8)
    outputs = [
        {"depth": depth, "gt_depth": depth, "img_path": f"/data/{scene}/rgb_00001.jpg"} for scene in ("k", "l", "m")
    ]
    hook.after_test_iter(None, 0, {"images": torch.rand(2, 3, 12, 16)}, outputs[:2])
    hook.after_test_iter(None, 1, {"images": [torch.rand(3, 12, 16)]}, outputs[2:])
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == {"k_rgb_00001.png", "m_rgb_00001.png"}


def test_names() -> None:
    assert picture_name("/data/kitchen/rgb_1.jpg", 3) == "kitchen_rgb_1.png"
    assert picture_name("rgb_1.jpg", 3) == "rgb_1.png"
    assert picture_name(None, 3) == "000003.png"
    with pytest.raises(ValueError, match="interval=0"):
        DepthVisualizationHook("x", interval=0)
