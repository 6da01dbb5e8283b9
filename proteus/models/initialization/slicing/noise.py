"""Images for a fit without data."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_images(count: int, size: int, seed: int = 0) -> Tensor:
    """Draw random images with the spectrum of photographs: amplitudes fall as one over the frequency.

    Args:
        count: Number of images.
        size: Side in pixels.
        seed: Seed.

    Returns:
        ``(count, 3, size, size)``: mean 0, as if normalised; channels are correlated, and contrast differs from image
        to image.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 3, size, size, generator=generator)
    frequencies = torch.fft.fftfreq(size)[:, None].square() + torch.fft.rfftfreq(size).square()
    falling = 1 / frequencies.sqrt().clamp_min(1 / size)
    images = torch.fft.irfft2(torch.fft.rfft2(white) * falling, s=(size, size))
    images = images / images.std((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True) * 3**0.5
    contrast = 0.5 + torch.rand(count, 1, 1, 1, generator=generator)
    return contrast * 0.9 * (0.9 * grey + 0.3 * images)
