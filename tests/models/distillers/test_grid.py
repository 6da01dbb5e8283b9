"""Resampling of tokens and masks, against computations that share nothing with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from proteus.models.distillers.grid import Grid, resample, resample_masks
from proteus.structures import Features
from proteus.utils.resampling import MODES, Mode

PAIRS = [
    ((16, 16), (7, 7)),
    ((4, 6), (3, 2)),
    ((3, 2), (5, 7)),
    ((14, 14), (16, 16)),
    ((2, 9), (4, 3)),
    ((1, 5), (3, 1)),
]


def features(grid: Grid, width: int = 3, batch: int = 2) -> Features:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(batch, grid[0] * grid[1], width, generator=generator)
    return Features(torch.randn(batch, width, generator=generator), patches, grid)


def by_hand(maps: np.ndarray, grid: Grid) -> np.ndarray:
    """Area means: each cell is cut into equal pieces of which both grids consist, and pieces are averaged."""
    height, width = maps.shape[-2:]
    pieces = maps.repeat(grid[0], axis=-2).repeat(grid[1], axis=-1)
    return pieces.reshape(*maps.shape[:-2], grid[0], height, grid[1], width).mean(axis=(-3, -1))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_area_is_the_mean_over_each_cell(old: Grid, new: Grid) -> None:
    given = features(old)
    found = resample(given, new, "area")
    assert (found.grid, found.cls is given.cls) == (new, True)
    wanted = by_hand(given.maps.double().numpy(), new)
    np.testing.assert_allclose(found.maps.numpy(), wanted, atol=1e-6)
    torch.testing.assert_close(found.patches.mean(1), given.patches.mean(1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_antialias_is_pillows_bilinear(old: Grid, new: Grid) -> None:
    given = features(old, width=1, batch=1)
    picture = Image.fromarray(given.maps[0, 0].numpy())
    wanted = np.asarray(picture.resize(new[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resample(given, new, "antialias").maps[0, 0].numpy(), wanted, atol=1e-5)


def test_three_columns_to_two() -> None:
    given = Features(torch.zeros(1, 1), torch.tensor([[[1.0], [10.0], [100.0]]]), (1, 3))
    expected = {
        "area": [(1 + 10 / 2) / 1.5, (10 / 2 + 100) / 1.5],
        # Centres of the new cells lie at 0.25 and 1.75 of the old centres 0, 1, 2.
        "bilinear": [0.75 * 1 + 0.25 * 10, 0.25 * 10 + 0.75 * 100],
        # A triangle 1.5 wide to each side: weights 1 - |x - c| / 1.5, of sum 1 after division.
        "antialias": [(5 / 6 + 10 * 0.5) / (4 / 3), (10 * 0.5 + 100 * 5 / 6) / (4 / 3)],
    }
    for mode, values in expected.items():
        found = resample(given, (1, 2), mode)  # type: ignore[arg-type]
        torch.testing.assert_close(found.patches.flatten(), torch.tensor(values), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_the_linear_map(mode: Mode) -> None:
    given = features((4, 6), width=2, batch=1)
    tokens = given.patches.double().requires_grad_()
    weights = torch.stack(
        [
            resample(Features(given.cls, unit.view(1, 24, 1), (4, 6)), (3, 2), mode).patches[0, :, 0]
            for unit in torch.eye(24)
        ]
    )
    outer = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(1))
    (resample(Features(given.cls, tokens, (4, 6)), (3, 2), mode).patches * outer).sum().backward()
    torch.testing.assert_close(tokens.grad[0].float(), weights @ outer[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(0), torch.ones(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_equal_grids_are_the_same_object(mode: Mode) -> None:
    given = features((3, 4))
    assert resample(given, (3, 4), mode) is given
    masks = torch.zeros(2, 12, dtype=torch.bool)
    assert resample_masks(masks, (3, 4), (3, 4)) is masks


@pytest.mark.parametrize("mode", MODES)
def test_low_precision_is_resampled_in_float32(mode: Mode) -> None:
    given = features((4, 4))
    half = Features(given.cls, given.patches.bfloat16(), (4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        found = resample(half, (3, 3), mode).patches
    exact = resample(Features(given.cls, half.patches.double(), (4, 4)), (3, 3), mode).patches
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=0)


def test_a_cell_is_masked_if_half_of_its_area_is() -> None:
    mask = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.bool).view(1, 12)
    assert resample_masks(mask, (2, 6), (1, 3)).tolist() == [[True, False, True]]  # 2, 1 and 3 of 4
    assert resample_masks(mask, (2, 6), (1, 4)).tolist() == [[True, False, True, True]]  # 1.5, 0.5, 2 and 2 of 3
    finer = resample_masks(mask, (2, 6), (4, 12)).view(4, 12)
    assert torch.equal(finer, mask.view(2, 6).repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_masks_are_the_rounded_area(old: Grid, new: Grid) -> None:
    masks = torch.rand(8, old[0] * old[1], generator=torch.Generator().manual_seed(0)) < 0.5
    shares = by_hand(masks.unflatten(1, old).numpy().astype(np.float64), new)
    wanted = (shares > 0.5 - 1e-9).reshape(8, -1)
    assert torch.equal(resample_masks(masks, old, new), torch.from_numpy(wanted))
