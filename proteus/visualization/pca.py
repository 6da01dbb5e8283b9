"""PCA maps of patch tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from proteus.structures import Features
from proteus.utils.pictures import save_picture


class PCA:
    """The first three principal components of a set of patch tokens, as red, green and blue.

    The axes are fitted on all patches of all images (paper, section A.10). Tokens of another network in the same space
    can use the same axes: equal colours then mean equal features.

    Args:
        features: Features with patch tokens ``(B, N, D)`` that define the axes.
    """

    def __init__(self, features: Features) -> None:
        tokens = features.patches.flatten(0, 1).double()
        self.mean = tokens.mean(0)
        # eigh sorts in ascending order; its signs are arbitrary, so make the largest weight of each axis positive.
        axes = torch.linalg.eigh((tokens - self.mean).T @ (tokens - self.mean)).eigenvectors[:, -3:].flip(1)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        self.axes = axes * largest.sign()
        projected = self._project(features.patches)
        self.low, self.high = (projected.flatten(0, 1).quantile(q, dim=0) for q in (0.01, 0.99))

    def __call__(self, features: Features) -> Tensor:
        """Return ``(B, h, w, 3)`` in [0, 1]; values beyond the middle 98 % of the fitted set are clipped."""
        colours = (self._project(features.patches) - self.low) / (self.high - self.low).clamp_min(1e-12)
        return colours.clamp(0, 1).unflatten(1, features.grid).float()

    def _project(self, tokens: Tensor) -> Tensor:
        return (tokens.double() - self.mean) @ self.axes


def draw_pca(images: Tensor, columns: Mapping[str, Tensor], path: str | Path) -> Path:
    """Draw photographs next to maps of their patches, one row per photograph.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        columns: Maps ``(B, h, w, 3)`` in [0, 1] from :class:`PCA`, by title.
        path: File to write.
    """
    titles = ["photograph", *columns]
    figure = Figure(figsize=(2.2 * len(titles), 2.2 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, image in enumerate(images):
        cells = [image.permute(1, 2, 0), *(maps[row] for maps in columns.values())]
        for axis, cell, title in zip(axes[row], cells, titles, strict=True):
            axis.imshow(cell.cpu().numpy(), interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=9)
    return save_picture(figure, path)
