from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proteus.models.depth.inference import flipped, padded, slide, spans


def mean_of_window(images: Tensor) -> Tensor:
    """What depends on the whole window, so that windows differ where they overlap."""
    return images.mean(1) + images.mean((1, 2, 3))[:, None, None]


def test_where_windows_stand() -> None:
    """A frame of 518 x 691 gives three windows (docs/reproduction.md#nyu-depth-v2)."""
    assert list(spans(691, 518, 129)) == [(0, 518), (129, 647), (173, 691)]
    assert list(spans(518, 518, 129)) == [(0, 518)]
    assert list(spans(400, 518, 129)) == [(0, 400)]
    assert list(spans(647, 518, 129)) == [(0, 518), (129, 647)]


def test_windows_are_averaged_where_they_overlap() -> None:
    images = torch.arange(6.0).expand(1, 3, 2, 6).contiguous()
    depth = slide(mean_of_window, images, (2, 4), (2, 2))
    # Windows 0..3 (mean 1.5) and 2..5 (mean 3.5).
    expected = torch.arange(6.0) + torch.tensor([1.5, 1.5, 2.5, 2.5, 3.5, 3.5])
    torch.testing.assert_close(depth, expected.expand(1, 2, 6))


@pytest.mark.parametrize("size", [(8, 8), (6, 8), (5, 3)])
def test_a_window_over_the_whole_image_changes_nothing(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size)
    assert torch.equal(slide(mean_of_window, images, (8, 8), (3, 3)), mean_of_window(images))


def test_flip() -> None:
    images = torch.rand(2, 3, 4, 6)
    weights = torch.rand(6)
    both = flipped(lambda batch: batch.mean(1) * weights)
    torch.testing.assert_close(both(images), images.mean(1) * (weights + weights.flip(0)) / 2)
    symmetric = torch.cat([images, images.flip(-1)], dim=-1)
    torch.testing.assert_close(flipped(mean_of_window)(symmetric), mean_of_window(symmetric))


def test_padding_is_cut_off() -> None:
    seen = []

    def predict(images: Tensor) -> Tensor:
        seen.append(images)
        return images.mean(1)

    images = torch.rand(1, 3, 13, 28)
    torch.testing.assert_close(padded(predict, 14)(images), images.mean(1))
    assert seen[-1].shape == (1, 3, 14, 28)
    assert torch.equal(seen[-1][..., 13, :], images[..., 12, :])
    padded(predict, 14)(torch.rand(1, 3, 14, 14))
    assert seen[-1].shape == (1, 3, 14, 14)
