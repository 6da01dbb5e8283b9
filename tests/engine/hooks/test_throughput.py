from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.engine.hooks import ThroughputHook
from proteus.engine.hooks.step_timer import HostTimer

Make = Callable[..., Runner]


class Slow(Hook):
    """Takes its time after a step, before the logger's."""

    priority = "VERY_LOW"

    def __init__(self, ticks: list[float]) -> None:
        self.ticks = ticks

    def after_train_iter(self, runner: Runner, batch_idx: int, **_: Any) -> None:
        self.ticks[0] += 100.0


def test_figures_of_each_line(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that ticks a second each time it is read, a step waits one second and takes one."""
    ticks = [0.0]

    def now() -> float:
        ticks[0] += 1.0
        return ticks[0]

    monkeypatch.setattr("proteus.engine.hooks.throughput.HostTimer", lambda: HostTimer(now))
    runner = make_runner(train_cfg__max_iters=4, train_cfg__val_interval=3, default_hooks__logger__interval=2, hooks=[])
    runner.register_hook(Slow(ticks))
    runner.train()
    found = {name: runner.message_hub.get_scalar(f"train/{name}").data[0] for name in ("images_per_s", "data_wait")}
    # One figure a line; neither the slow hook nor validation is counted.
    assert found["images_per_s"].tolist() == [8 / 2, 8 / 2]
    assert found["data_wait"].tolist() == [0.5, 0.5]
    assert runner.message_hub.get_scalar("train/memory").current() > 10
    # A CPU's peak is not known.
    assert "train/mfu" not in runner.message_hub.log_scalars


def test_share_of_peak(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proteus.engine.hooks.throughput.peak_flops", lambda *_: 1e15)
    runner = make_runner(train_cfg__max_iters=2, default_hooks__logger__interval=2)
    hook = next(hook for hook in runner.hooks if isinstance(hook, ThroughputHook))
    monkeypatch.setattr("proteus.engine.hooks.throughput._on_gpu", lambda _: True)
    monkeypatch.setattr("proteus.engine.hooks.throughput.DeviceTimer", HostTimer)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    runner.train()
    hub = runner.message_hub
    rate = hub.get_scalar("train/images_per_s").current()
    assert hook.flops_of_image is not None
    assert 1e6 < hook.flops_of_image < 1e9
    assert hub.get_scalar("train/mfu").current() == pytest.approx(rate * hook.flops_of_image / 1e15)


@pytest.mark.parametrize("batch", [{"inputs": [1, 2]}, {"something": [1, 2]}, {"inputs": torch.zeros(2, 3, 4, 4)}])
def test_batches_of_others(make_runner: Make, batch: dict[str, Any]) -> None:
    """mmseg's and mmpretrain's have other keys; of one whose images nobody knows there is no figure."""
    runner = make_runner(train_cfg__max_iters=1)
    hook = ThroughputHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    hook.before_train_iter(runner, 0, batch)
    hook.after_train_iter(runner, 0, batch)
    assert ("train/images_per_s" in runner.message_hub.log_scalars) == ("something" not in batch)
