from pathlib import Path

import numpy as np
from PIL import Image

from proteus.visualization import draw_probe_grid

COLUMNS = {"blocks1": [10.0, 80.0, 81.0], "blocks4": [20.0, 82.0, 79.0]}


def red(path: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (pixels[..., 0] > 200) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def test_the_best_head_is_framed(tmp_path: Path) -> None:
    first = draw_probe_grid(COLUMNS, [0.001, 0.01, 0.1], tmp_path / "a.png")
    swapped = draw_probe_grid({**COLUMNS, "blocks1": [10.0, 80.0, 99.0]}, [0.001, 0.01, 0.1], tmp_path / "b.png")
    assert red(first).sum() > 200
    # From row 1 of column 1 to row 2 of column 0: down and to the left.
    move = centre(red(swapped)) - centre(red(first))
    assert move[0] > 20
    assert move[1] < -50


def test_equal_heads_can_be_drawn(tmp_path: Path) -> None:
    path = draw_probe_grid({"blocks1": [50.0]}, [0.1], tmp_path / "one.png")
    assert red(path).any()
