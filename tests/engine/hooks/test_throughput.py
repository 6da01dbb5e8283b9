from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.engine.hooks import ThroughputHook
from proteus.engine.hooks.step_timer import HostTimer
from proteus.engine.hooks.throughput import peak_flops

Make = Callable[..., Runner]
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


class Slow(Hook):
    """Take time after a step, before the logger."""

    priority = "VERY_LOW"

    def __init__(self, ticks: list[float]) -> None:
        self.ticks = ticks

    def after_train_iter(self, runner: Runner, batch_idx: int, **_: Any) -> None:
        self.ticks[0] += 100.0


def test_throughput_and_data_wait_of_each_line(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that advances a second per reading, a step waits one second and takes one."""
    ticks = [0.0]

    def now() -> float:
        ticks[0] += 1.0
        return ticks[0]

    monkeypatch.setattr("proteus.engine.hooks.throughput.HostTimer", lambda: HostTimer(now))
    runner = make_runner(train_cfg__max_iters=4, train_cfg__val_interval=3, default_hooks__logger__interval=2, hooks=[])
    runner.register_hook(Slow(ticks))
    runner.train()
    found = {name: runner.message_hub.get_scalar(f"train/{name}").data[0] for name in ("images_per_s", "data_wait")}
    # One value per line, without the slow hook and validation.
    assert found["images_per_s"].tolist() == [8 / 2, 8 / 2]
    assert found["data_wait"].tolist() == [0.5, 0.5]
    assert runner.message_hub.get_scalar("train/memory").current() > 10
    # The peak of a CPU is unknown.
    assert "train/mfu" not in runner.message_hub.log_scalars


def test_a_log_line_has_the_rate_over_all_its_steps(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of eight images: one of two seconds, half of them waiting, and one of six seconds."""
    readings = chain([0.0, 1.0, 2.0, 10.0, 10.0, 16.0], repeat(20.0))
    monkeypatch.setattr("proteus.engine.hooks.throughput.HostTimer", lambda: HostTimer(lambda: next(readings)))
    steps = {"train_cfg__max_iters": 2, "default_hooks__logger__interval": 2, "default_hooks__online_eval": None}
    runner = make_runner(**steps)
    runner.train()
    (log,) = Path(runner.work_dir).glob("*/*.log")
    (line,) = (line for line in log.read_text().splitlines() if "Iter(train)" in line)
    # The mean of both steps' rates would be 2.6667.
    assert "images_per_s: 2.0000  data_wait: 0.1250" in line


def test_mfu(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proteus.engine.hooks.throughput.peak_flops", lambda *_: 1e15)
    runner = make_runner(train_cfg__max_iters=2, default_hooks__logger__interval=2)
    hook = next(hook for hook in runner.hooks if isinstance(hook, ThroughputHook))
    monkeypatch.setattr("proteus.engine.hooks.throughput._on_gpu", lambda _: True)
    monkeypatch.setattr("proteus.engine.hooks.throughput.DeviceTimer", HostTimer)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    runner.train()
    hub = runner.message_hub
    rate = hub.get_scalar("train/images_per_s").current()
    assert hook.flops_per_image is not None
    assert 1e6 < hook.flops_per_image < 1e9
    assert hub.get_scalar("train/mfu").current() == pytest.approx(rate * hook.flops_per_image / 1e15)


@pytest.mark.parametrize("batch", [{"inputs": [1, 2]}, {"something": [1, 2]}, {"inputs": torch.zeros(2, 3, 4, 4)}])
def test_batches_with_other_keys(make_runner: Make, batch: dict[str, Any]) -> None:
    """mmseg's and mmpretrain's batches have other keys; a batch of unknown keys is not counted."""
    runner = make_runner(train_cfg__max_iters=1)
    hook = ThroughputHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    hook.before_train_iter(runner, 0, batch)
    hook.after_train_iter(runner, 0, batch)
    assert ("train/images_per_s" in runner.message_hub.log_scalars) == ("something" not in batch)


@pytest.mark.parametrize(
    ("device", "dtype", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", BRAIN, 312),
        ("NVIDIA A100 80GB PCIe", FULL, 19.5),
        ("NVIDIA H100 80GB HBM3", BRAIN, 989.5),
        ("NVIDIA H100 PCIe", BRAIN, 756),
        ("NVIDIA H200", BRAIN, 989.5),
        ("NVIDIA L4", BRAIN, 121),
        ("NVIDIA L40S", BRAIN, 362.05),
        ("NVIDIA GeForce RTX 4090", BRAIN, 165.2),
        ("Tesla V100-SXM2-32GB", HALF, 125),
        ("Tesla V100-PCIE-16GB", HALF, 112),
        ("Tesla V100-PCIE-16GB", BRAIN, None),  # without bfloat16
        ("Tesla T4", HALF, 65),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", BRAIN, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", BRAIN, None),
        ("NVIDIA GeForce GTX 1080", FULL, None),
        ("NVIDIA A100-SXM4-80GB", torch.float64, None),
    ],
)
def test_peak_flops(device: str, dtype: torch.dtype, tera: float | None) -> None:
    assert peak_flops(device, dtype) == (None if tera is None else pytest.approx(tera * 1e12))


def test_peak_flops_with_tf32() -> None:
    assert peak_flops("NVIDIA A100-SXM4-40GB", FULL, tf32=True) == 156e12
    assert peak_flops("Tesla T4", FULL, tf32=True) == 8.1e12
