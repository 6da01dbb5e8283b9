"""Runs of a model of two weights, under MMEngine's runner with our default hooks."""

from __future__ import annotations

import math
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from runs import SERVER
from torch import Tensor, nn
from torch.distributed import TCPStore
from torch.utils.data import Dataset

from proteus.apis.run_state import add_run_hooks, exclusive_run, run_training
from proteus.apis.training import build_runner
from proteus.checkpoints.training import use_safe_checkpoints
from proteus.cli.run import run
from proteus.engine.runner import prepare_processes
from proteus.registry import DATASETS, HOOKS, METRICS, MODELS


@MODELS.register_module()
class ToyModel(BaseModel):
    """A line through points."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x: Tensor, name: Sequence[str], mode: str = "tensor") -> Any:
        """Loss of a batch, or one dict a point."""
        error = (self.line(x) - 2 * x).square().mean()
        return {"loss_line": error} if mode == "loss" else [{"error": float(error)} for _ in name]


@DATASETS.register_module()
class ToySet(Dataset):
    """Points and their names; one of them may be NaN."""

    def __init__(self, size: int = 64, bad: int | None = None) -> None:
        self.size, self.bad = size, bad

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        value = math.nan if index == self.bad else index / self.size
        return {"x": torch.tensor([value]), "name": f"{index}.jpg"}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Report the error as ``toy/error``; or ``values``, one at each validation."""

    default_prefix = "toy"

    def __init__(self, values: Sequence[float] = ()) -> None:
        super().__init__()
        self.values = list(values)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results.extend(sample["error"] for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"error": self.values.pop(0) if self.values else sum(results) / len(results)}


def toy_config(work_dir: Path, max_iters: int = 6, bad: int | None = None, **keys: Any) -> Config:
    """A config of the toy run; ``keys`` are merged in, with ``__`` for the dot."""
    loader = {
        "batch_size": 4,
        "num_workers": 0,
        "dataset": {"type": "ToySet", "bad": bad},
        "collate_fn": {"type": "default_collate"},
    }
    cfg = Config(
        {
            "default_scope": "proteus",
            "model": {"type": "ToyModel"},
            "work_dir": str(work_dir),
            "train_dataloader": {**loader, "sampler": {"type": "InfiniteSampler", "shuffle": False}},
            "train_cfg": {"by_epoch": False, "max_iters": max_iters, "val_interval": 1000},
            "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.01}},
            "param_scheduler": [{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 100}],
            "val_dataloader": {
                **loader,
                "dataset": {"type": "ToySet", "size": 8},
                "sampler": {"type": "DefaultSampler", "shuffle": False},
            },
            "val_cfg": {},
            "val_evaluator": {"type": "ToyMetric"},
            "default_hooks": {
                "logger": {"type": "LoggerHook", "interval": 100},
                "checkpoint": {"type": "AtomicCheckpointHook", "by_epoch": False, "interval": 2},
            },
            "log_processor": {"by_epoch": False, "window_size": 50},
            "randomness": {"seed": 0},
            "load_from": None,
            "resume": False,
        }
    )
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in keys.items()})
    return cfg


def toy_runner(work_dir: Path, hooks: Sequence[Hook] = (), **keys: Any) -> Runner:
    """A runner of the toy config, built and not run."""
    use_safe_checkpoints()
    cfg = toy_config(work_dir, **keys)
    add_run_hooks(cfg)
    cfg.experiment_name = f"{work_dir.parent.name}-{work_dir.name}-{torch.randint(10**9, ()).item()}"
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def checkpoints(folder: Path) -> set[str]:
    """Names of the checkpoints in a folder, temporary ones among them."""
    return {path.name for path in folder.iterdir() if ".pth" in path.name}


def saved(path: Path) -> dict[str, Any]:
    """A checkpoint that a test's own run wrote."""
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


def assert_same_run(found: Path, wanted: Path) -> None:
    """Equal weights, optimizer, schedules and iteration."""
    ours, theirs = saved(found), saved(wanted)
    for part in ("state_dict", "optimizer", "param_schedulers"):
        assert _plain(ours[part]) == _plain(theirs[part]), part
    assert ours["meta"]["iter"] == theirs["meta"]["iter"]


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def train_ranks(work_dir: Path, count: int = 2, hooks: Sequence[dict[str, Any]] = (), **keys: Any) -> list[Rank]:
    """Train the toy run on several processes, as a launcher starts them; returns how each of them ended."""
    # As torchrun does: a port that is free now may be another process's when rank 0 would open it.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = []
    for rank in range(count):
        output = work_dir.parent / f"{work_dir.name}.rank{rank}"
        arguments = (rank, count, store.port, output, work_dir, list(hooks), keys)
        process = SERVER.Process(target=_train_rank, args=arguments)
        process.start()
        ranks.append((process, output))
    for process, _ in ranks:
        process.join(60)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [Rank(process.exitcode, output.read_text()) for process, output in ranks]


class Rank(NamedTuple):
    """How a process ended, and what it printed."""

    status: int | None
    output: str


def _train_rank(
    rank: int, count: int, port: int, output: Path, work_dir: Path, hooks: list[dict[str, Any]], keys: dict[str, Any]
) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    torch.set_num_threads(1)
    cfg = toy_config(work_dir, custom_hooks=hooks, launcher="pytorch", **keys)

    def main(_: Namespace) -> int:
        train_toy(cfg)
        return 0

    run(main, Namespace())


def train_toy(cfg: Config) -> Runner:
    """Train a config on one rank, as ``tools/train.py`` does."""
    prepare_processes(cfg)
    with exclusive_run(cfg):
        runner = build_runner(cfg)
        run_training(runner)
    return runner


@HOOKS.register_module()
class ToyTrouble(Hook):
    """At an iteration, on one rank, send a signal, spoil the weights, or sleep."""

    priority = "VERY_HIGH"

    def __init__(self, rank: int = 0, iteration: int = 3, number: int = 0, bad: bool = False, sleep: float = 0) -> None:
        self.rank, self.iteration, self.number, self.bad, self.sleep = rank, iteration, number, bad, sleep

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Do it."""
        time.sleep(self.sleep)
        if runner.rank == self.rank and runner.iter + 1 == self.iteration:
            if self.number:
                os.kill(os.getpid(), self.number)
            if self.bad:
                data_batch["x"].fill_(math.nan)
