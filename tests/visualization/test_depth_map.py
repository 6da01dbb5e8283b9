from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from proteus.visualization import draw_depth_map


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def panels(picture: np.ndarray) -> list[np.ndarray]:
    """Return the middle row of each panel, ``(width, 3)``."""
    row = picture[picture.shape[0] // 2]
    inked = np.flatnonzero((row < 250).any(-1))
    runs = np.split(inked, np.flatnonzero(np.diff(inked) > 2) + 1)
    return [row[run[0] : run[-1] + 1] for run in runs if len(run) > 150]


def test_prediction_and_truth_share_their_colours(tmp_path: Path) -> None:
    truth = torch.linspace(1, 5, 40).expand(30, 40).contiguous()
    image, wrong = torch.zeros(3, 60, 80), truth.flip(1)
    shown, predicted, true, error = panels(pixels(draw_depth_map(image, wrong, tmp_path / "a.png", truth)))
    assert (shown == 0).all()
    # In the middle of each column of depths.
    sides = [row[((np.arange(40) + 0.5) / 40 * len(row)).astype(int)] for row in (predicted, true[::-1])]
    assert np.abs(sides[0] - sides[1]).max() <= 2
    assert len({tuple(colour) for colour in true}) >= 40
    # Dark in the middle, where both are three metres.
    brightness = error.sum(-1)
    assert brightness[len(error) // 2] < 0.1 * brightness[5]


def test_unknown_depth_is_grey(tmp_path: Path) -> None:
    truth = torch.full((30, 40), 2.0)
    truth[:, :20] = 0
    truth[:, 19] = float("nan")
    path = draw_depth_map(torch.zeros(3, 60, 80), torch.full((30, 40), 2.5), tmp_path / "a.png", truth)
    _, predicted, true, error = panels(pixels(path))
    for panel, share in ((predicted, 0), (true, 0.5), (error, 0.5)):
        assert (np.abs(panel - 153).max(-1) <= 2).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("truth", [None, torch.zeros(6, 8)])
def test_without_ground_truth(tmp_path: Path, truth: torch.Tensor | None) -> None:
    path = draw_depth_map(torch.rand(3, 12, 16), torch.rand(6, 8) - 0.2, tmp_path / "alone.png", truth)
    picture = pixels(path)
    assert (picture.max(-1) - picture.min(-1) > 100).any()
