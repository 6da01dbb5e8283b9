"""Image, depth and colour bar at full size."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from proteus.visualization.depth_panel import draw_depth_panel

WIDTH, HEIGHT, GAP = 40, 30, 8


def panel(depth: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    sheet = np.asarray(draw_depth_panel(image, depth, top))
    assert np.array_equal(sheet[:, :WIDTH], image)
    return sheet, sheet[:, WIDTH + GAP : 2 * WIDTH + GAP], sheet[:, 2 * (WIDTH + GAP) + 2]


def test_depths_have_the_colours_of_the_bar() -> None:
    depth = np.repeat(np.linspace(4.0, 0.0, HEIGHT)[:, None], WIDTH, axis=1).astype(np.float32)
    sheet, drawn, bar = panel(depth, 4.0)
    assert sheet.shape[0] == HEIGHT
    assert np.abs(drawn[:, 0].astype(int) - bar).max() <= 3
    wanted = np.round(np.array(colormaps["turbo"](1.0)[:3]) * 255)
    assert np.array_equal(bar[0], wanted)


def test_depths_are_clipped_to_the_bar() -> None:
    depth = np.full((HEIGHT, WIDTH), 9.0, np.float32)
    depth[:, : WIDTH // 2] = -1.0
    _, drawn, bar = panel(depth, 3.0)
    assert np.array_equal(drawn[5, -1], bar[0])
    assert np.array_equal(drawn[5, 0], bar[-1])
