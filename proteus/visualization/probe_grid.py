"""Picture of a linear probe's grid of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from proteus.utils.pictures import save_picture


def draw_probe_grid(columns: Mapping[str, Sequence[float]], rates: Sequence[float], path: str | Path) -> Path:
    """Draw the accuracy of each head as a coloured table, the best one framed.

    Args:
        columns: Accuracies in per cent at each learning rate, by input of the heads.
        rates: The learning rates.
        path: File to write.
    """
    values = np.array(list(columns.values())).T
    figure = Figure(figsize=(1.3 * len(columns) + 1.6, 0.36 * len(rates) + 1.3), layout="constrained")
    axis = figure.subplots()
    # Start the colours at the median, so that the best heads can be distinguished.
    middle = float(np.median(values))
    image = axis.imshow(values, aspect="auto", vmin=middle, vmax=max(float(values.max()), middle + 1e-6))
    shades = np.asarray(image.norm(values))
    for row, column in np.ndindex(*values.shape):
        axis.text(
            column,
            row,
            f"{values[row, column]:.2f}",
            ha="center",
            va="center",
            color="black" if shades[row, column] > 0.6 else "white",
        )
    row, column = np.unravel_index(values.T.argmax(), values.T.shape)[::-1]
    axis.add_patch(_frame(float(column), float(row)))
    axis.set_xticks(range(len(columns)), list(columns), fontsize=8)
    axis.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axis.set(ylabel="learning rate at batch 256", title="top-1 in per cent")
    return save_picture(figure, path)


def _frame(column: float, row: float) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2)
