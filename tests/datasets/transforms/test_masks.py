import math
import random

import numpy as np
import pytest
import torch

from proteus.datasets import BlockMask, UniformMask, seeded

IMAGE = {"img": torch.zeros(3, 224, 224)}


def masks(transform, count: int) -> torch.Tensor:
    with seeded(0):
        return torch.stack([transform(dict(IMAGE))["mask"] for _ in range(count)])


def test_uniform_masks_are_exact_and_even() -> None:
    found = masks(UniformMask(0.5), 2000)
    assert found.shape == (2000, 256)
    assert found.dtype == torch.bool
    assert set(found.sum(1).tolist()) == {128}
    assert (found.float().mean(0) - 0.5).abs().max() < 0.06  # 5 standard deviations


def test_uniform_masks_with_a_range() -> None:
    counts = masks(UniformMask((0.1, 0.5)), 500).sum(1)
    assert counts.min() < 32
    assert counts.max() > 121
    assert ((counts >= 25) & (counts <= 128)).all()


def test_blocks_never_exceed_the_count() -> None:
    transform = BlockMask()
    with seeded(1):
        for _ in range(300):
            count = random.randint(0, 128)
            assert transform.draw(16, 16, count).sum() <= count


def test_blocks_mask_about_the_given_ratio() -> None:
    ratios = masks(BlockMask((0.1, 0.5)), 1000).float().mean(1)
    # The mean ratio is 0.3; a remainder smaller than the smallest block stays unmasked.
    assert 0.25 < ratios.mean() < 0.30
    assert ratios.max() <= 0.5
    assert masks(BlockMask(0.5), 300).float().mean() > 0.44


def test_blocks_are_rectangles_within_the_given_limits() -> None:
    transform = BlockMask()
    sizes = []
    with seeded(2):
        for _ in range(3000):
            mask = torch.zeros(16, 16, dtype=torch.bool)
            added = transform._add_block(mask, 100)
            assert added == mask.sum()
            if added:
                rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
                assert rows * columns == added
                sizes.append((rows, columns))
    areas = np.prod(sizes, axis=1)
    assert areas.min() >= 20  # (16 // 3) ** 2 = 25, minus the rounding of both sides
    assert areas.max() <= 100
    aspects = np.array([math.log(rows / columns) for rows, columns in sizes])
    assert abs(aspects).max() < math.log(1 / 0.3) + 0.25
    assert abs(aspects.mean()) < 0.05
    assert (abs(aspects) > 0.8).mean() > 0.2


def test_block_masks_cluster() -> None:
    """More neighbours are equal than in a uniform mask with the same ratio."""

    def agreement(found: torch.Tensor) -> float:
        grid = found.view(-1, 16, 16)
        return (grid[:, 1:] == grid[:, :-1]).float().mean().item()

    assert agreement(masks(BlockMask(0.4), 100)) > agreement(masks(UniformMask(0.4), 100)) + 0.2


def test_grid_depends_on_image_and_patch_size() -> None:
    assert UniformMask(0.5, patch_size=16)({"img": torch.zeros(3, 32, 64)})["mask"].shape == (8,)


@pytest.mark.parametrize("ratio", [1.5, -0.1, (0.5, 0.1), 50, 0, (0, 0)])
def test_invalid_ratios(ratio) -> None:
    for kind in (UniformMask, BlockMask):
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.ratio=.*fraction above 0"):
            kind(ratio)
