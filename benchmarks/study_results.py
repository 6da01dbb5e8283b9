"""Write the results of ``study.py``: JSON, a Markdown table and pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from measure import commit, machine
from study_contenders import COMMON, Contender
from study_figures import draw_agreement, draw_maps
from study_loop import Study
from study_points import draw_points, evaluate_points
from study_runs import Run, student_file
from study_table import Row, as_record, format_table

from proteus.apis import load_config
from proteus.utils import write_json, write_text

_FINALISTS = ("plus-sliced", "sliced", "plus-random", "default-random", "released", "lightly-train-best")
"""Students in the PCA maps, as far as they are in the study."""


def write_results(study: Study, contenders: Sequence[Contender], rows: Sequence[Row]) -> list[str]:
    """Write ``study.json``, ``study.md``, ``curves.png``, ``points.png`` and ``pca.png``; return their names.

    There are no curves without a training by Proteus, no points unless they are asked for, and no maps without a
    finalist.
    """
    out = study.settings.out
    teacher = study.teacher()
    record = {
        "command": f"python benchmarks/study.py {' '.join(sys.argv[1:])}",
        "machine": machine(),
        "commit": commit(),
        "views": study.settings.views,
        "teacher": teacher,
        "rows": {row.name: as_record(row) for row in rows},
        "failures": study.failures,
    }
    write_json(out / "study.json", record, indent=1)
    write_text(out / "study.md", f"{format_table(rows, teacher)}\n{_caption(study, rows)}\n")
    return ["study.json", "study.md", *_draw(study, contenders, rows)]


def _caption(study: Study, rows: Sequence[Row]) -> str:
    spread = f"mean ± standard deviation of {study.seeds} seeds" if study.seeds > 1 else "one seed"
    threads = "1 thread" if study.settings.threads == 1 else f"{study.settings.threads} threads"
    return (
        f"{study.settings.views:,} views, {spread}; {machine()['processor']}, {threads}, commit {commit()}. "
        "Bold: better than the runner-up by more than the sum of both spreads."
        + (" The learning rates given were chosen on the validation split." if any(row.rate for row in rows) else "")
    )


def _draw(study: Study, contenders: Sequence[Contender], rows: Sequence[Row]) -> list[str]:
    settings, written = study.settings, []
    found = {row.name: row for row in rows if row.seeds}
    runs = {}
    for contender in contenders:
        if contender.name in found:
            rate = found[contender.name].rate
            seeds = [Run(contender, rate, seed) for seed in contender.seeds(study.seeds)]
            runs[contender] = [run.folder(settings) for run in seeds]
    # 1. curves of what Proteus trained; a peer has no online evaluation
    curves = {
        each.name: [folder / "train" for folder in folders]
        for each, folders in runs.items()
        if each.trains and not each.peer
    }
    batch = load_config(COMMON).train_dataloader.batch_size
    if draw_agreement(curves, batch, settings.out / "curves.png"):
        written.append("curves.png")
    # 2. figures in the course of training
    if settings.points:
        trained = {
            each.name: evaluate_points(Run(each, found[each.name].rate, 0), settings, study.evaluator)
            for each in runs
            if each.trains and not each.peer
        }
        untrained = {each.name: found[each.name].seeds[0] for each in runs if not each.trains}
        draw_points(trained, {**untrained, "teacher": study.teacher()}, settings.out / "points.png")
        written.append("points.png")
    # 3. maps
    students = {each.name: (student_file(folders[0]), each.cls) for each, folders in runs.items()}
    finalists = {name: students[name] for name in _FINALISTS if name in students}
    if finalists:
        draw_maps(finalists, study.evaluator, settings.out / "pca.png")
        written.append("pca.png")
    return written
