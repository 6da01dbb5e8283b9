"""From a network for images of one size to a prediction for an image of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

Predict = Callable[[Tensor], Tensor]
"""Images ``(B, 3, H, W)`` -> maps ``(B, H, W)``."""


def padded(predict: Predict, multiple: int) -> Predict:
    """Let ``predict`` take images of any size: the last row and column are repeated up to the next multiple.

    What was predicted for them is cut off, so that padding never counts.
    """

    def padding(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        down, right = -height % multiple, -width % multiple
        if not (down or right):
            return predict(images)
        return predict(F.pad(images, (0, right, 0, down), mode="replicate"))[..., :height, :width]

    return padding


def flipped(predict: Predict) -> Predict:
    """Average the prediction for an image and that for its mirror image, mirrored back; both in one batch."""

    def both(images: Tensor) -> Tensor:
        plain, mirrored = predict(torch.cat([images, images.flip(-1)])).chunk(2)
        return (plain + mirrored.flip(-1)) / 2

    return both


def slide(predict: Predict, images: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Predict window by window and average where windows overlap.

    The last window of a row or column is moved back to end at the image's edge. Where the image is smaller than the
    window, the window is the image.

    Args:
        predict: For one window.
        images: ``(B, 3, H, W)``.
        window: Height and width, pixels.
        stride: From one window to the next, down and across, pixels.

    Returns:
        ``(B, H, W)``.
    """
    height, width = images.shape[-2:]
    total = images.new_zeros((len(images), height, width), dtype=torch.float32)
    count = images.new_zeros((height, width), dtype=torch.float32)
    for top, bottom in spans(height, window[0], stride[0]):
        for left, right in spans(width, window[1], stride[1]):
            total[:, top:bottom, left:right] += predict(images[..., top:bottom, left:right])
            count[top:bottom, left:right] += 1
    return total / count


def spans(length: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield where the windows along one side begin and end."""
    for number in range(max(length - window + stride - 1, 0) // stride + 1):
        end = min(number * stride + window, length)
        yield max(end - window, 0), end
