"""Pictures of ``study.py``: agreement over views, and PCA maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from study_metrics import encode_all
from study_pictures import halves, load_photographs
from study_students import Evaluator, Pool

from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.structures import Features
from proteus.utils.pictures import save_picture
from proteus.visualization import PCA, draw_pca

_PANELS = {"centered_cosine_patch": "patch tokens", "centered_cosine_cls": "cls token"}
_PHOTOGRAPHS = 5
_ZOOM = 2  # side of the images, over that in training


def draw_agreement(runs: Mapping[str, Sequence[Path]], batch: int, path: Path) -> Path | None:
    """Draw the online agreement of trained contenders over views, a band from the lowest to the highest seed.

    Args:
        runs: Work directories of a contender, one per seed, by its name.
        batch: Images in a step.
        path: File to write.

    Returns:
        ``path``; None if no run has an online evaluation.
    """
    figure = Figure(figsize=(5 * len(_PANELS) + 2.5, 4), layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    drawn = False
    for axis, (key, title) in zip(axes, _PANELS.items(), strict=True):
        for number, (name, folders) in enumerate(runs.items()):
            curves = [_curve(folder, key) for folder in folders]
            steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
            if len(steps) < 2:
                continue
            drawn = True
            values = np.array([[curve[step] for step in steps] for curve in curves])
            views, style = [batch * step for step in steps], {"color": f"C{number % 10}"}
            line = ("-", "--", ":")[number // 10 % 3]
            axis.plot(views, values.mean(0), line, marker="o", markersize=3, label=name, **style)
            if len(values) > 1:
                axis.fill_between(views, values.min(0), values.max(0), alpha=0.2, linewidth=0, **style)
        axis.set(xlabel="views", ylabel="centred cosine to the teacher", title=f"{title}, photographs not trained on")
        axis.grid(alpha=0.3)
    if not drawn:
        return None
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small", frameon=False)
    return save_picture(figure, path)


def draw_maps(students: Mapping[str, tuple[Path, Pool]], evaluator: Evaluator, path: Path) -> Path:
    """Draw PCA maps of the teacher and of students on photographs that no linear map was fitted on.

    A student's tokens pass through the linear map to the teacher's that ``patch_cosine`` measures, so that equal
    colours are equal features. The images are twice as large as in training.

    Args:
        students: Exported weights and the token of the image, by title.
        evaluator: Has the photographs and the teacher.
        path: File to write.
    """
    side = _ZOOM * evaluator.side
    _, unseen = halves(len(evaluator.pictures("test", evaluator.side).photographs))
    chosen = unseen.sort().values[:: max(len(unseen) // _PHOTOGRAPHS, 1)][:_PHOTOGRAPHS]
    images = load_photographs(evaluator.data, side, chosen.tolist())
    teacher = encode_all(evaluator.teacher_at(side), images)
    pca = PCA(teacher)
    maps = {"teacher": pca(teacher)}
    for title, (weights, cls) in students.items():
        found = encode_all(evaluator.student_at(weights, cls, side), images)
        to_teacher = evaluator.to_teacher(weights, cls)
        tokens = (to_teacher(found.patches) + to_teacher.centre).float()
        maps[title] = pca(Features(found.cls, tokens, found.grid))
    return draw_pca(images / 255, maps, path)


def _curve(folder: Path, key: str) -> dict[int, float]:
    lines = read_jsonl(folder / "online_eval.jsonl") if (folder / "online_eval.jsonl").is_file() else []
    return {line["iteration"]: line[key] for line in lines if line.get(key) is not None}
