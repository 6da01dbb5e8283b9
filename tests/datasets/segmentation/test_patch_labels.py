"""Labels of patches: hand-worked masks, and the sample that keeps rare classes."""

from __future__ import annotations

import numpy as np
import pytest

from proteus.datasets.segmentation.patch_labels import patch_labels, sample_patches


def test_shares_of_two_classes_in_four_patches() -> None:
    mask = np.array(
        [
            [0, 0, 1, 1],
            [0, 1, 1, 1],
            [-1, -1, 0, -1],
            [-1, -1, 1, 1],
        ]
    )
    shares = patch_labels(mask, (2, 2), 2)
    # Ignored pixels do not count: the last patch has three labelled pixels, the third none.
    np.testing.assert_allclose(shares, [[3 / 4, 1 / 4], [0, 1], [0, 0], [1 / 3, 2 / 3]], rtol=1e-6)
    assert shares.dtype == np.float32


def test_a_mask_of_any_size_is_divided_evenly() -> None:
    mask = np.random.default_rng(0).integers(-1, 5, (13, 22))
    shares = patch_labels(mask, (3, 4), 5)
    for row in range(3):
        for column in range(4):
            rows = [r for r in range(13) if r * 3 // 13 == row]
            columns = [c for c in range(22) if c * 4 // 22 == column]
            pixels = mask[np.ix_(rows, columns)]
            known = pixels[pixels >= 0]
            expected = [np.mean(known == label) for label in range(5)]
            np.testing.assert_allclose(shares[row * 4 + column], expected, rtol=1e-6)
    # Patches smaller than a pixel have no label rather than a neighbour's.
    assert patch_labels(np.array([[1]]), (2, 2), 2).tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_no_class_of_an_image_is_lost(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.eye(8, dtype=np.float32)[generator.choice(8, 200, p=[0.6, 0.3, 0.05, 0.01, 0.01, 0.01, 0.01, 0.01])]
    labels[generator.choice(200, 40, replace=False)] = 0  # ignored patches
    present = set(np.flatnonzero(labels.any(axis=0)))
    kept = sample_patches(labels, 8, np.random.default_rng(seed))
    assert len(kept) == len(set(kept.tolist())) == 8
    assert set(labels[kept].argmax(axis=1)) == present
    assert labels[kept].any(axis=1).all()


def test_rare_classes_are_preferred_and_seeds_differ() -> None:
    labels = np.eye(2, dtype=np.float32)[[0] * 95 + [1] * 5]
    draws = [sample_patches(labels, 10, np.random.default_rng(seed)) for seed in range(20)]
    assert np.mean([(draw >= 95).sum() for draw in draws]) > 2  # 0.5 of a uniform sample
    again = sample_patches(labels, 10, np.random.default_rng(0))
    assert np.array_equal(draws[0], again)
    assert not np.array_equal(draws[0], draws[1])
    assert sample_patches(labels, 200, np.random.default_rng(0)).tolist() == list(range(100))
