"""Train and evaluate the contenders of ``study.py``, and report the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study_contenders import Contender
from study_runs import (
    RESULT,
    Launch,
    Run,
    Settings,
    TrainingError,
    count_runs,
    finish_run,
    format_rate,
    launch,
    student_file,
)
from study_students import Evaluator, Split
from study_table import Row, choose_rate

from proteus.utils import read_json, write_json


class Study:
    """Trains and evaluates contenders, each run once, and reports the progress.

    Args:
        settings: What all runs share.
        seeds: Seeds of each contender.
        evaluator: Evaluates teacher and students.
        start: Starts a training.

    Attributes:
        failures: Messages of trainings that failed.
    """

    def __init__(self, settings: Settings, seeds: int, evaluator: Evaluator, start: Launch = launch) -> None:
        self.settings, self.seeds, self.evaluator, self.start = settings, seeds, evaluator, start
        self.failures: list[str] = []
        self._total = 0
        self._finished: set[Path] = set()
        self._seconds: list[float] = []

    def rows(self, contenders: Sequence[Contender]) -> list[Row]:
        """Finish all runs of contenders and return their rows, without those of which a training failed."""
        self._total, rows = sum(count_runs(each, self.seeds) for each in contenders), []
        for contender in contenders:
            before = len(self._finished)
            try:
                rows.append(self.row(contender))
            except TrainingError as error:
                print(f"error: {error}", file=sys.stderr)
                self.failures.append(str(error))
            # Of a contender that failed or diverged, some runs are left out.
            self._total -= count_runs(contender, self.seeds) - (len(self._finished) - before)
        return rows

    def row(self, contender: Contender) -> Row:
        """Choose the rate of a contender, and evaluate all seeds at it on the test split.

        Raises:
            TrainingError: A training failed.
        """
        # 1. the rate, with seed 0 on the validation split
        rate, validation = contender.rates[0], {}
        if len(contender.rates) > 1:
            for each in contender.rates:
                figures = self._figures(Run(contender, each, 0), "validation")
                if figures is not None and each is not None:
                    validation[each] = figures
            if not validation:
                return Row(contender.name, contender.about, contender.group, note="diverged at every rate")
            rate = choose_rate(validation)
            print(f"{contender.name}: learning rate {rate:g}, by the validation split", flush=True)
        # 2. all seeds, on the test split
        runs = [Run(contender, rate, seed) for seed in contender.seeds(self.seeds)]
        figures = [found for found in (self._figures(run, "test") for run in runs) if found is not None]
        results = [read_json(run.folder(self.settings) / RESULT) for run in runs]
        notes = ["mean patch token as cls token"] if contender.cls == "mean" else []
        if len(figures) < len(runs):
            notes.append(f"{len(runs) - len(figures)} of {len(runs)} seeds diverged")
        return Row(
            contender.name,
            contender.about,
            contender.group,
            rate if len(contender.rates) > 1 else None,
            figures,
            [each["images_per_second"] for each in results if contender.trains and each.get("images_per_second")],
            ", ".join(notes),
            {format_rate(each): found for each, found in validation.items()},
        )

    def teacher(self) -> dict[str, float]:
        """Return the teacher's figures on the test split."""
        path = self.settings.out / "teacher.json"
        if not path.is_file():
            write_json(path, self.evaluator.evaluate_teacher("test"), indent=1)
        figures: dict[str, float] = read_json(path)
        return figures

    def _figures(self, run: Run, split: Split) -> dict[str, float] | None:
        """Return the figures of a run, which is trained and evaluated if it is not yet; None if it diverged."""
        path = run.folder(self.settings) / RESULT
        is_new, began = not path.is_file(), time.perf_counter()
        if is_new:
            print(f"[{len(self._finished) + 1}/{self._total}] {run.name}{self._time_left()}", flush=True)
        result: dict[str, Any] = finish_run(run, self.settings, self.start)
        if "error" not in result and split not in result:
            weights = student_file(path.parent)
            result[split] = self.evaluator.evaluate_student(weights, run.contender.cls, split, run.contender.side)
            write_json(path, result, indent=1)
            print(
                f"  {split}: " + ", ".join(f"{name} {value:.4g}" for name, value in result[split].items()), flush=True
            )
        self._finished.add(path)
        if is_new and run.contender.trains:
            self._seconds.append(time.perf_counter() - began)
        if "error" in result:
            return None
        figures: dict[str, float] = result[split]
        return figures

    def _time_left(self) -> str:
        if not self._seconds:
            return ""
        seconds = (self._total - len(self._finished)) * sum(self._seconds) / len(self._seconds)
        return f", about {seconds / 60:.0f} minutes left"
