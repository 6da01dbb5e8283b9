"""Evaluate students of ``study.py`` in the course of their training, and draw the figures over views."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from study_runs import RESULT, Run, Settings
from study_students import Evaluator
from study_table import COLUMNS

from proteus.apis import load_config
from proteus.utils import read_json, write_json
from proteus.utils.pictures import save_picture

_PANELS = ("cifar_logistic", "camvid_miou", "patch_cosine", "cls_cosine")

Points = Mapping[int, Mapping[str, float]]
"""Figures of the test split by number of views."""


def evaluate_points(run: Run, settings: Settings, evaluator: Evaluator) -> Points:
    """Evaluate the average of the weights at each checkpoint of a training, each once.

    Nothing is chosen by these figures. They are kept in the result of the run.

    Args:
        run: A finished run.
        settings: What all runs share.
        evaluator: Evaluates the students.
    """
    folder = run.folder(settings)
    result: dict[str, Any] = read_json(folder / RESULT)
    found: dict[str, Mapping[str, float]] = result.setdefault("points", {})
    cfg = load_config(folder / "config.py")
    for step, checkpoint in sorted(_checkpoints(folder / "train").items()):
        views = str(step * cfg.train_dataloader.batch_size)
        if views not in found:
            average, contender = f"{checkpoint}#ema", run.contender
            found[views] = evaluator.evaluate_student(average, contender.cls, "test", contender.side, cfg.model.student)
            write_json(folder / RESULT, result, indent=1)
            print(f"{run.name}, {int(views):,} views: " + ", ".join(f"{k} {v:.4g}" for k, v in found[views].items()))
    return {int(views): figures for views, figures in found.items()}


def draw_points(trained: Mapping[str, Points], untrained: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    """Draw the figures of trainings over views, and those of students without training as horizontal lines.

    Args:
        trained: Points by contender.
        untrained: Figures by name, the teacher's included.
        path: File to write.
    """
    figure = Figure(figsize=(4 * len(_PANELS), 3.8), layout="constrained")
    axes: Sequence[Any] = figure.subplots(1, len(_PANELS))
    for axis, key in zip(axes, _PANELS, strict=True):
        for number, (name, points) in enumerate(trained.items()):
            views = sorted(points)
            axis.plot(views, [points[at][key] for at in views], "o-", markersize=3, color=f"C{number}", label=name)
        for number, (name, figures) in enumerate(untrained.items()):
            if key in figures:
                style = {"linestyle": ("--", ":", "-.")[number % 3], "color": "0.4", "linewidth": 1}
                axis.axhline(figures[key], label=name, **style)
        axis.set(xlabel="views", title=COLUMNS[key][0])
        axis.grid(alpha=0.3)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize="small", frameon=False
    )
    return save_picture(figure, path)


def _checkpoints(work_dir: Path) -> dict[int, Path]:
    found = {path: re.fullmatch(r"iter_(\d+)\.pth", path.name) for path in work_dir.glob("iter_*.pth")}
    return {int(match[1]): path for path, match in found.items() if match}
