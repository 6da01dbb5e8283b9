"""Curves of losses, validation and online evaluation over a run."""

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

    A second row has the online evaluation of ``online_eval.jsonl``, if there is one: unexplained variances, effective
    ranks and k-NN.

    Args:
        work_dir: Folder of the run; if it was started several times, the latest start is drawn.
        path: File to write.

    Raises:
        FileNotFoundError: The run wrote no scalars.
    """
    logs = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    if not logs:
        raise FileNotFoundError(f"no */vis_data/scalars.json in {work_dir}: does the config have a LocalVisBackend?")
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    evaluations = read_jsonl(Path(work_dir) / "online_eval.jsonl")
    panels = {start: words for start, words in _PANELS.items() if _names(evaluations, start)}
    columns = max(2, len(panels))
    figure = Figure(figsize=(5.5 * columns, 6.8 if panels else 3.4), layout="constrained")
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
            _draw_online_eval(axis, evaluations, start)
            axis.set(xlabel="iteration", ylabel=words)
            axes.append(axis)
    for axis in axes:
        if axis.get_legend_handles_labels()[0]:
            # Next to the axes, where it covers no curve.
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
    return save_picture(figure, path)


_PANELS = {
    "unexplained_variance_": "fraction of variance unexplained",
    "effective_rank_": "effective rank",
    "knn_": "k-NN accuracy, %",
}


def _draw_online_eval(axis: Axes, evaluations: list[dict[str, Any]], start: str) -> None:
    """Draw the student's curves, and the teacher's in the same colours and dashed."""
    names = _names(evaluations, start)
    kinds = list(dict.fromkeys(_without_network(name) for name in names))
    for name in names:
        words = name.replace(start, "").replace("trained_on/", "trained on: ").replace("_", " ").strip()
        is_teacher = name.endswith("_teacher")
        axis.plot(
            *_series(evaluations, name, "iteration"),
            label=f"k = {words}" if start == "knn_" else words,
            color=f"C{kinds.index(_without_network(name))}",
            linestyle="--" if is_teacher else "-",
            marker="" if is_teacher else "o",
        )
    if start == "unexplained_variance_":
        axis.axhline(1, color="grey", linewidth=0.8)
    axis.set_ylim(bottom=0)


def _names(evaluations: list[dict[str, Any]], start: str) -> list[str]:
    return sorted({key for line in evaluations for key in line if key.split("/")[-1].startswith(start)})


def _without_network(name: str) -> str:
    return name.removesuffix("_student").removesuffix("_teacher")


def _series(lines: list[dict[str, Any]], name: str, step: str) -> tuple[list[int], list[float]]:
    points = [(line[step], line[name]) for line in lines if line.get(name) is not None]
    return [x for x, _ in points], [y for _, y in points]
