"""Pictures of depth maps with ground truth and error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms.v2 import functional

from proteus.models.depth.losses import known
from proteus.utils.pictures import save_picture


def draw_depth_map(
    image: Tensor, depth: Tensor, path: str | Path, truth: Tensor | None = None, max_depth: float | None = None
) -> Path:
    """Draw an image, its predicted depth and, if there is ground truth, the truth and the error, with colour bars.

    Prediction and ground truth share one scale in metres; pixels without ground truth are grey.

    Args:
        image: ``(3, H, W)``, uint8, or float in [0, 1].
        depth: ``(h, w)``, metres.
        path: File to write.
        truth: ``(h, w)``, metres; 0 where it is unknown.
        max_depth: Metres at the upper end of the colours; by default the largest of the ground truth, or of the
            prediction without ground truth.
    """
    predicted = depth.detach().float().cpu().numpy()
    panels: list[tuple[str, np.ndarray]] = [("prediction", predicted)]
    if truth is not None:
        valid = known(truth, 0.0, None).cpu().numpy()
        panels.append(("ground truth", np.ma.masked_array(truth.detach().float().cpu().numpy(), ~valid)))
    top = max_depth or float(panels[-1][1].max() if np.ma.count(panels[-1][1]) else predicted.max())
    count = len(panels) + 1 + (truth is not None)
    height, width = predicted.shape
    figure = Figure(figsize=(3.4 * count + 1.2, 3.4 * height / width + 1.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count))
    pixels = functional.to_dtype(image.detach().cpu(), torch.float32, scale=True).clamp(0, 1)
    axes[0].imshow(pixels.permute(1, 2, 0).numpy())
    axes[0].set_title("image")
    colours = colormaps["turbo"].with_extremes(bad="0.6")
    drawn = []
    for axis, (title, values) in zip(axes[1:], panels, strict=False):
        drawn.append(axis.imshow(values, cmap=colours, vmin=0.0, vmax=max(top, 1e-6)))
        axis.set_title(title)
    figure.colorbar(drawn[0], ax=list(axes[1 : len(panels) + 1]), label="depth in m", shrink=0.9, extend="max")
    if truth is not None:
        error = np.ma.masked_array(np.abs(predicted - panels[1][1].data), ~valid)
        worst = float(np.percentile(error.compressed(), 99)) if error.count() else 1.0
        bad = colormaps["magma"].with_extremes(bad="0.6")
        errors = axes[-1].imshow(error, cmap=bad, vmin=0.0, vmax=max(worst, 1e-6))
        root = float(np.sqrt((error.compressed() ** 2).mean())) if error.count() else float("nan")
        axes[-1].set_title(f"error (RMSE {root:.3f} m, all known pixels)")
        figure.colorbar(errors, ax=axes[-1], label="|prediction - truth| in m", shrink=0.9, extend="max")
    for axis in axes:
        axis.set_axis_off()
    return save_picture(figure, path, dpi=90)
