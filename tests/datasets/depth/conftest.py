"""Small pairs of an image and a depth map on disk, in both layouts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOCAL = "518.8579"


def put_pair(image: Path, depth: Path, height: int = 12, width: int = 16, seed: int = 0) -> np.ndarray:
    """Write noise and depths of 1 to 5 m with the first row invalid; returns the depths in millimetres."""
    draw = np.random.default_rng(seed)
    image.parent.mkdir(parents=True, exist_ok=True)
    depth.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(image, quality=95)
    stored = draw.integers(1000, 5000, (height, width)).astype(np.uint16)
    stored[0] = 0
    Image.fromarray(stored).save(depth)
    return stored


@pytest.fixture
def toolbox(tmp_path: Path) -> Path:
    """Four training pairs and two test pairs, listed out of order."""
    for split, scenes in (("train", ["kitchen_0028b", "attic_0001"]), ("test", ["bathroom"])):
        lines = []
        for scene in scenes:
            for number in (45, 7):
                names = f"{scene}/rgb_{number:05}.jpg", f"{scene}/sync_depth_{number:05}.png"
                put_pair(tmp_path / names[0], tmp_path / names[1], seed=number)
                lines.append(f"/{names[0]} /{names[1]} {FOCAL}\n")
        (tmp_path / f"nyu_{split}.txt").write_text("".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def mmseg_layout(tmp_path: Path) -> Path:
    """Two training pairs, one in a subfolder, and a test pair, named as by mmseg's converter."""
    root = tmp_path / "mmseg"
    for seed, name in enumerate(("train/kitchen_0028b_00045", "train/deeper/attic_0001_00007", "test/bathroom_00045")):
        put_pair(root / f"images/{name}.jpg", root / f"annotations/{name}.png", seed=seed)
    return root


@pytest.fixture
def put() -> Callable[..., np.ndarray]:
    return put_pair
