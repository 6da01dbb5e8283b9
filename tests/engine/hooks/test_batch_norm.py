"""Running statistics of batch norm on two processes: they are the same wherever they are used or stored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from toy_runs import ToyModel, saved, toy_config, train_toy
from two_ranks import on_two_ranks

from proteus.engine.hooks import BatchNormHook, OnlineEvalHook
from proteus.registry import HOOKS, MODELS
from proteus.utils.models import unwrap_model


@MODELS.register_module(force=True)
class ToyNorm(ToyModel):
    """A line behind two layers of batch norm, one of which stays in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm1d(1), nn.BatchNorm1d(1)

    def train(self, mode: bool = True) -> ToyNorm:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor, name: Any, mode: str = "tensor") -> Any:
        return super().forward(self.frozen(self.norm(x)), name, mode)


@HOOKS.register_module(force=True)
class Seen(Hook):
    """Keep the statistics that the model and its average are validated with."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def before_train(self, runner: Runner) -> None:
        unwrap_model(runner.model).frozen.running_mean.fill_(runner.rank)

    def before_val_epoch(self, runner: Runner) -> None:
        average = next(hook.ema_model.module for hook in runner.hooks if hasattr(hook, "ema_model"))
        self.found += [float(model.norm.running_mean) for model in (unwrap_model(runner.model), average)]


def trained(out: Path) -> dict[str, Any]:
    """Train on this rank; returns its statistics at two validations, at the end, and those of the layer at rest."""
    hooks = [{"type": "EMAHook", "ema_type": "ForeachEMA"}, {"type": "Seen"}]
    cfg = toy_config(
        out / "run",
        max_iters=5,
        model__type="ToyNorm",
        custom_hooks=hooks,
        train_cfg__val_interval=3,
        launcher="pytorch",
    )
    runner = train_toy(cfg)
    model, seen = unwrap_model(runner.model), next(hook for hook in runner.hooks if isinstance(hook, Seen))
    return {"seen": seen.found, "end": float(model.norm.running_var), "frozen": float(model.frozen.running_mean)}


def evaluated(rank: int) -> list[float]:
    """The mean after each of 5 iterations, with an online evaluation every 3 and after the last."""
    model, found = nn.Sequential(nn.BatchNorm1d(1)), []
    runner = SimpleNamespace(model=model, hooks=[OnlineEvalHook(interval=3)], iter=0, max_iters=5)
    for runner.iter in range(5):
        model[0].running_mean.fill_(rank)
        BatchNormHook().after_train_iter(runner, runner.iter)
        found.append(float(model[0].running_mean))
    return found


@pytest.mark.slow
def test_two_ranks_validate_and_save_the_mean_of_their_statistics(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from test_batch_norm import evaluated, trained
result = {{"online": evaluated(rank), **trained(Path({str(tmp_path)!r}))}}
"""
    first, second = on_two_ranks(code, __file__, tmp_path)
    assert (first.pop("online"), second.pop("online")) == ([0.0, 0.0, 0.5, 0.0, 0.5], [1.0, 1.0, 0.5, 1.0, 0.5])
    assert (first.pop("frozen"), second.pop("frozen")) == (0.0, 1.0)
    assert first == second
    assert len(set(first["seen"])) == 2  # model and average alike, at two validations
    for name in ("iter_2.pth", "iter_4.pth", "iter_5.pth"):
        checkpoint = saved(tmp_path / "run" / name)
        mean, of_average = checkpoint["state_dict"]["norm.running_mean"], checkpoint["ema_state_dict"]
        assert torch.equal(mean, of_average["module.norm.running_mean"])
    assert float(checkpoint["state_dict"]["norm.running_var"]) == first["end"]
    assert float(mean) == first["seen"][-1]


def test_one_process_is_left_alone() -> None:
    BatchNormHook().before_val(SimpleNamespace(model=None))
