"""Losses and agreement over a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw_curves(work_dir: str | Path, path: str | Path) -> Path:
    """Draw the losses and the validation metrics that MMEngine's local backend wrote to a work directory.

    Args:
        work_dir: Folder of the run; of several starts in it, the latest is drawn.
        path: File to write.

    Raises:
        FileNotFoundError: The run left no scalars.
    """
    logs = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    if not logs:
        raise FileNotFoundError(f"no */vis_data/scalars.json in {work_dir}: was LocalVisBackend taken from the config?")
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in sorted({key for line in lines for key in line if key.startswith("loss_")}):
        left.plot(*_series(lines, name, "iter"), label=name.removeprefix("loss_"))
    left.set(xlabel="iteration", ylabel="loss", title="training")
    for name in sorted({key for line in lines for key in line if key.startswith("agreement/")}):
        right.plot(*_series(lines, name, "step"), marker="o", label=name.removeprefix("agreement/"))
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xlabel="iteration", ylabel="centred cosine to the teacher", title="held-out images")
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    figure.savefig(path, dpi=110)
    return Path(path)


def _series(lines: list[dict[str, Any]], name: str, step: str) -> tuple[list[int], list[float]]:
    points = [(line[step], line[name]) for line in lines if name in line]
    return [x for x, _ in points], [y for _, y in points]
