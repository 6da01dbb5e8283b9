"""Runs of a model of two weights, under MMEngine's runner with the hooks that every run of ours has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from proteus.apis.run_state import add_run_hooks
from proteus.engine.runner import use_safe_checkpoints
from proteus.registry import DATASETS, METRICS, MODELS


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
    """The error, as ``toy/error``; with ``values`` these, one at each validation, in its place."""

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
