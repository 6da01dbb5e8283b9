"""Losses, agreement and what was watched over a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.utils.pictures import save_picture


def draw_curves(work_dir: str | Path, path: str | Path) -> Path:
    """Draw the losses and the validation metrics that MMEngine's local backend wrote to a work directory.

    Below them comes what ``OnlineEvalHook`` wrote to ``online_eval.jsonl``, if it did: relative losses, effective ranks, k-NN.

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
    watched = read_jsonl(Path(work_dir) / "online_eval.jsonl")
    panels = {start: words for start, words in _PANELS.items() if _names(watched, start)}
    columns = max(2, len(panels))
    figure = Figure(figsize=(4.5 * columns, 6.8 if panels else 3.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1) if panels else [figure]
    left, right = parts[0].subplots(1, 2)
    for name in sorted({key for line in lines for key in line if key.startswith("loss_")}):
        left.plot(*_series(lines, name, "iter"), label=name.removeprefix("loss_"))
    left.set(xlabel="iteration", ylabel="loss", title="training")
    for name in sorted({key for line in lines for key in line if key.startswith("centered_cosine/")}):
        right.plot(*_series(lines, name, "step"), marker="o", label=name.removeprefix("centered_cosine/"))
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xlabel="iteration", ylabel="centred cosine to the teacher", title="held-out images")
    axes = [left, right]
    if panels:
        for axis, (start, words) in zip(parts[1].subplots(1, columns, squeeze=False)[0], panels.items(), strict=False):
            _draw_watched(axis, watched, start)
            axis.set(xlabel="iteration", ylabel=words)
            axes.append(axis)
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    return save_picture(figure, path)


_PANELS = {
    "unexplained_variance_": "loss / loss of the best constant",
    "effective_rank_": "effective rank",
    "knn_": "k-NN accuracy, %",
}


def _draw_watched(axis: Axes, watched: list[dict[str, Any]], start: str) -> None:
    """The student's curves, and the teacher's in the same colours and dashed."""
    names = _names(watched, start)
    kinds = list(dict.fromkeys(_bare(name) for name in names))
    for name in names:
        words = name.replace(start, "").replace("trained_on/", "trained on: ").replace("_", " ").strip()
        of_teacher = name.endswith("_teacher")
        axis.plot(
            *_series(watched, name, "iteration"),
            label=f"k = {words}" if start == "knn_" else words,
            color=f"C{kinds.index(_bare(name))}",
            linestyle="--" if of_teacher else "-",
            marker="" if of_teacher else "o",
        )
    if start == "unexplained_variance_":
        axis.axhline(1, color="grey", linewidth=0.8)
    axis.set_ylim(bottom=0)


def _names(watched: list[dict[str, Any]], start: str) -> list[str]:
    return sorted({key for line in watched for key in line if key.split("/")[-1].startswith(start)})


def _bare(name: str) -> str:
    return name.removesuffix("_student").removesuffix("_teacher")


def _series(lines: list[dict[str, Any]], name: str, step: str) -> tuple[list[int], list[float]]:
    points = [(line[step], line[name]) for line in lines if line.get(name) is not None]
    return [x for x, _ in points], [y for _, y in points]
