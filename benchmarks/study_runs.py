"""One run of ``study.py``: a folder, a training in a child process, and a result that is written once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import ROOT, commit, machine
from study_contenders import Contender
from study_peers import peer_command, read_peer

from proteus.apis import load_config
from proteus.config.check_consistency import has_fixed_views
from proteus.config.load import read_config
from proteus.config.write import config_text, write_config
from proteus.evaluation.online.jsonl_log import read_jsonl
from proteus.structures import UserError
from proteus.utils import read_json, write_json

RESULT = "result.json"
# The teacher's tokens of a run with fixed views, in its folder; deleted at its end.
_CACHE = "cache"
# Log lines at the start that are left out of images/s.
_WARMUP_LINES = 2
_STEP_KEYS = ("begin", "end", "T_max")

Launch = Callable[[Sequence[str], Mapping[str, str], Path], int]
"""Runs a command with an environment, writes its output to a file and returns its exit status."""


class TrainingError(Exception):
    """A training ended with an error; the message is its last line."""


@dataclass(frozen=True)
class Settings:
    """What all runs of a study share.

    Attributes:
        data: Folder of the data.
        out: Folder to write to.
        views: Training images that a student sees, repetitions included.
        threads: CPU threads of a training and of the evaluation.
        points: Times at which the average of the weights is kept, evenly spaced over a training; 0 for none.
    """

    data: Path
    out: Path
    views: int = 9600
    threads: int = 2
    points: int = 0


@dataclass(frozen=True)
class Run:
    """A contender at a learning rate and a seed."""

    contender: Contender
    rate: float | None
    seed: int

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.contender.name} lr {format_rate(self.rate)} seed {self.seed}"

    def folder(self, settings: Settings) -> Path:
        """Return its folder."""
        return settings.out / "runs" / self.contender.name / f"lr-{format_rate(self.rate)}_seed-{self.seed}"


def format_rate(rate: float | None) -> str:
    """Format a learning rate for names of folders; None is the config's or the peer's own."""
    return "own" if rate is None else f"{rate:g}"


def launch(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Run a command in a child process."""
    with log.open("ab") as output:
        return subprocess.run(command, env=environment, cwd=ROOT, stdout=output, stderr=output).returncode


def finish_run(run: Run, settings: Settings, start: Launch = launch) -> dict[str, Any]:
    """Train a run, unless it is finished, and return its result.

    A training that was killed resumes from its newest checkpoint, to the same weights; one of a peer starts again. A
    training that diverged has the key ``error`` in its result and is not repeated.

    Args:
        run: The run.
        settings: What all runs share.
        start: Starts the training.

    Raises:
        TrainingError: The training failed for another reason; the next call tries again.
        UserError: The folder has a run of another length or on other data.
    """
    folder = run.folder(settings)
    asked = {"views": settings.views, "data": str(settings.data.resolve()), "threads": settings.threads}
    if (folder / RESULT).is_file():
        result: dict[str, Any] = read_json(folder / RESULT)
        for key in ("views", "data"):
            if result[key] != asked[key]:
                raise UserError(f"{folder}: its run has {key}={result[key]}, not {asked[key]}; name another --out")
        return result
    folder.mkdir(parents=True, exist_ok=True)
    log, began = folder / "train.log", time.perf_counter()
    result = {"contender": run.contender.name, "learning_rate": run.rate, "seed": run.seed, **asked}
    if run.contender.peer:
        status = start(peer_command(run, settings, folder / "train"), _environment(settings), log)
    else:
        write_run_config(run, settings, folder / "config.py")
        cfg = load_config(folder / "config.py")
        result["config"] = config_text(cfg.to_dict())
        work_dir = str(folder / "train")
        proteus, status = [sys.executable, "-m", "proteus"], 0
        if has_fixed_views(cfg.train_dataloader.dataset):
            status = start([*proteus, "cache", str(folder / "config.py")], _environment(settings), log)
        if not status:
            command = [*proteus, "train", str(folder / "config.py"), "--work-dir", work_dir, "--resume"]
            status = start(command, _environment(settings), log)
    if status:
        words = _last_line(log)
        if "NaN or infinite" not in words:
            raise TrainingError(f"{run.name}: exit status {status}: {words} (see {log})")
        result["error"] = words
    elif run.contender.peer:
        result |= read_peer(folder / "train")
    else:
        result["images_per_second"] = images_per_second(folder / "train")
        shutil.rmtree(folder / _CACHE, ignore_errors=True)
    # Of this start only, if the run was resumed.
    result["seconds"] = round(time.perf_counter() - began, 1)
    result |= {"machine": machine(), "commit": commit(), "date": time.strftime("%Y-%m-%d %H:%M")}
    write_json(folder / RESULT, result, indent=1)
    return result


def write_run_config(run: Run, settings: Settings, path: Path) -> None:
    """Write the config of a run: the contender's, with its data, rate, seed and length."""
    cfg = read_config(run.contender.config)  # checked with the run's
    dataset: dict[str, Any] = {"data_root": str((settings.data / "photos/imagenet").resolve())}
    if has_fixed_views(cfg.train_dataloader.dataset):  # they depend on the seed
        dataset = {"cache": str(path.parent / _CACHE), "dataset": dataset}
    held_out = {"dataset": {"data_root": str((settings.data / "photos/bsds").resolve())}}
    values: dict[str, Any] = {
        "_base_": str(run.contender.config.resolve()),
        "train_dataloader": {"dataset": dataset},
        "val_dataloader": held_out,
        "test_dataloader": held_out,
        "randomness": {"seed": run.seed},
    }
    if run.rate is not None:
        values["optim_wrapper"] = {"optimizer": {"lr": run.rate}}
    planned, steps = cfg.train_cfg.max_iters, settings.views // cfg.train_dataloader.batch_size
    if run.contender.trains and steps != planned:
        values["train_cfg"] = {"max_iters": steps, "val_interval": steps}
        parts = [
            {key: _scaled(value, steps / planned) if key in _STEP_KEYS else value for key, value in part.items()}
            for part in cfg.param_scheduler
        ]
        # MMEngine's schedulers never leave their first value in a single step.
        values["param_scheduler"] = [part for part in parts if part["end"] - part["begin"] > 1] or None
    if run.contender.trains and settings.points:
        values["default_hooks"] = {"checkpoint": {"interval": steps // settings.points, "max_keep_ckpts": -1}}
        values["custom_hooks"] = [*cfg.get("custom_hooks", []), {"type": "StudentEMAHook"}]
    write_config(path, values, f"Written by benchmarks/study.py: {run.name}")


def student_file(folder: Path) -> Path:
    """Return the weights that a training left."""
    return folder / "train/student.safetensors"


def images_per_second(work_dir: Path) -> float | None:
    """Return the median rate of the log lines of a training, without the first ones."""
    rates = [line["images_per_s"] for line in read_jsonl(work_dir / "metrics.jsonl") if line.get("images_per_s")]
    kept = rates[_WARMUP_LINES:] or rates
    return median(kept) if kept else None


def count_runs(contender: Contender, seeds: int) -> int:
    """Return the number of runs of a contender: its rates with one seed, and the best one with the other seeds."""
    return len(contender.rates) + len(contender.seeds(seeds)) - 1


def _scaled(step: int, factor: float) -> int:
    return max(round(step * factor), 1) if step else 0


def _environment(settings: Settings) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    threads = str(settings.threads)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no output"
