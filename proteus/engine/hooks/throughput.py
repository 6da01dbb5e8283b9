"""How fast the run is, what it waits for, and how much of the device it uses."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.engine.hooks.logging_due import logs_now
from proteus.engine.hooks.peak_flops import peak_flops
from proteus.engine.hooks.step_timer import DeviceTimer, HostTimer, StepTimer
from proteus.models.flops import distillation_flops
from proteus.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Add to each log line what the steps since the last one amount to.

    ``images_per_s``: over all ranks. ``data_wait``: share of the time in which the device, without work, waited for
    data, 0 to 1. ``mfu``: share of what the device can compute at most by its data sheet, where that is known and
    the model is one that distils; it is a distiller's FLOPs, counted, over the time. ``memory``: this process's peak in
    MB, where there is no GPU whose memory MMEngine logs.

    On a GPU times are of events in its own queue, read when they are over, so that nothing waits for the GPU and a host
    that is late while the GPU still has work is not mistaken for a wait; elsewhere of the host's clock. What other
    hooks do between two steps (pictures, checkpoints, validation) is not counted.

    It stands before the logger.
    """

    priority = 55

    def __init__(self) -> None:
        self.clock: StepTimer = HostTimer()
        self.flops_of_image: float | None = None
        self.peak: float | None = None
        self.counted = False

    def before_train(self, runner: Runner) -> None:
        """Choose the clock, and look the device's peak up."""
        device = _device_of(runner)
        on_gpu = _on_gpu(device)
        self.clock = DeviceTimer() if on_gpu else HostTimer()
        tf32 = torch.get_float32_matmul_precision() != "highest"
        self.peak = peak_flops(torch.cuda.get_device_name(device), _dtype_of(runner), tf32) if on_gpu else None
        self.counted = False
        runner.register_hook(_WaitsNow(self.clock), priority=100)

    def before_train_epoch(self, runner: Runner) -> None:
        """From now on the run waits for data."""
        self.clock.wait()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """A batch is there; the first is counted."""
        if not self.counted:
            self.counted = True
            self.flops_of_image = _count(runner, data_batch) if self.peak else None
        self.clock.begin()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """A step is over; before a log line, write the figures."""
        self.clock.end(len(next((data_batch[key] for key in ("data_samples", "inputs") if key in data_batch), ())))
        if not logs_now(runner, batch_idx):
            return
        spent, hub = self.clock.read(), runner.message_hub
        if spent.images and spent.seconds:
            rate = spent.images / spent.seconds
            hub.update_scalar("train/images_per_s", rate * get_world_size())
            hub.update_scalar("train/data_wait", spent.waiting / spent.seconds)
            if self.flops_of_image and self.peak:
                hub.update_scalar("train/mfu", rate * self.flops_of_image / self.peak)
        if not torch.cuda.is_available():
            hub.update_scalar("train/memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)

    def after_val(self, runner: Runner) -> None:
        """Back to waiting for training data."""
        self.clock.wait()


class _WaitsNow(Hook):
    """After all other hooks of a step: what follows is waiting for the next batch."""

    def __init__(self, clock: StepTimer) -> None:
        self.clock = clock

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Start to wait."""
        self.clock.wait()


def _device_of(runner: Runner) -> torch.device:
    parameter = next(runner.model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _dtype_of(runner: Runner) -> torch.dtype:
    """What matrix products are computed in under the run's optimizer wrapper."""
    with runner.optim_wrapper.optim_context(runner.model):
        if torch.is_autocast_enabled("cuda"):
            return torch.get_autocast_dtype("cuda")
    return torch.float32


def _count(runner: Runner, batch: Any) -> float | None:
    config = runner.cfg.get("model")
    if not isinstance(config, Mapping) or not isinstance(batch, Mapping) or "inputs" not in batch:
        return None
    try:
        return distillation_flops(config, batch)
    # NotImplementedError is torch's, for an operator of the model that has no kernel for meta tensors.
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        runner.logger.warning(f"mfu is left out of the log: a step of this model cannot be counted ({error})")
        return None
