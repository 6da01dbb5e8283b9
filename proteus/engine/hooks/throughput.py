"""Throughput, data wait, model FLOPs utilization and memory in the log."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.engine.hooks.async_runtime_info import is_logging_due
from proteus.engine.hooks.step_timer import DeviceTimer, HostTimer, StepTimer
from proteus.models.flops import distillation_flops
from proteus.registry import HOOKS

# Peak TFLOP/s of dense matrix products from NVIDIA's data sheets (a multiply-add is two; without sparsity; accumulation
# in float32): name, float16, whether bfloat16 is as fast, TF32 or None, float32. The first matching name wins.
_PEAKS: tuple[tuple[str, float, bool, float | None, float], ...] = (
    ("H200 NVL", 835.5, True, 417.5, 60),
    ("H200", 989.5, True, 494.5, 67),
    ("H100 PCIe", 756, True, 378, 51),
    ("H100 NVL", 835.5, True, 417.5, 60),
    ("H100", 989.5, True, 494.5, 67),
    ("A100", 312, True, 156, 19.5),
    ("A30", 165, True, 82, 10.3),
    ("L40S", 362.05, True, 183, 91.6),
    ("L4", 121, True, 60, 30.3),
    ("RTX 4090", 165.2, True, 82.6, 82.6),
    ("RTX 3090", 71, True, 35.6, 35.6),
    ("RTX A6000", 154.8, True, 77.4, 38.7),
    ("V100-PCIE", 112, False, None, 14),
    ("V100", 125, False, None, 15.7),
    ("T4", 65, False, None, 8.1),
)
# Words in the names of partial GPUs, or slower ones of the same name.
_UNKNOWN_VARIANTS = {"MIG", "Laptop", "D", "Max-Q", "GRID"}


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Add throughput, data wait, MFU and memory of the steps since the last log line to each log line.

    ``images_per_s``: over all ranks. ``data_wait``: fraction of the time in which the device was idle waiting for data.
    ``mfu``: model FLOPs utilization, the counted FLOPs of a distiller's step over time, as a fraction of the device's
    peak; only for distillers on GPUs with a known peak. With a schedule of image sizes, that of the latest size.
    ``memory``: this process's peak in MB, without a GPU (with one, MMEngine logs the GPU's memory).

    On a GPU times come from CUDA events, which are read after they have completed, so that nothing waits for the GPU,
    and a late host does not count as a wait while the GPU has work; elsewhere from the host's clock. The time of other
    hooks between steps (pictures, checkpoints, validation) is not counted.

    The hook runs before the logger.
    """

    priority = 55

    def __init__(self) -> None:
        self.timer: StepTimer = HostTimer()
        self.flops_per_image: float | None = None
        self.peak: float | None = None
        self._counted: dict[Any, float | None] = {}

    def before_train(self, runner: Runner) -> None:
        """Choose the timer, and look up the device's peak."""
        device = _device_of(runner)
        on_gpu = _on_gpu(device)
        self.timer = DeviceTimer() if on_gpu else HostTimer()
        tf32 = torch.get_float32_matmul_precision() != "highest"
        self.peak = peak_flops(torch.cuda.get_device_name(device), _dtype_of(runner), tf32) if on_gpu else None
        self._counted = {}
        runner.register_hook(_StartWaiting(self.timer), priority=100)

    def before_train_epoch(self, runner: Runner) -> None:
        """Start waiting for data."""
        self.timer.wait()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start a step; count the FLOPs of the first batch of each size."""
        if self.peak:
            size = _size_of(data_batch)
            if size not in self._counted:
                self._counted[size] = _count_flops(runner, data_batch)
            self.flops_per_image = self._counted[size]
        self.timer.begin()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """End a step; before a log line, update the scalars."""
        self.timer.end(len(next((data_batch[key] for key in ("data_samples", "inputs") if key in data_batch), ())))
        if not is_logging_due(runner, batch_idx):
            return
        spent, hub = self.timer.read(), runner.message_hub
        if spent.images and spent.seconds:
            rate = spent.images / spent.seconds
            hub.update_scalar("train/images_per_s", rate * get_world_size())
            hub.update_scalar("train/data_wait", spent.waiting / spent.seconds)
            if self.flops_per_image and self.peak:
                hub.update_scalar("train/mfu", rate * self.flops_per_image / self.peak)
        if not torch.cuda.is_available():
            hub.update_scalar("train/memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)

    def after_val(self, runner: Runner) -> None:
        """Start waiting for training data again."""
        self.timer.wait()


class _StartWaiting(Hook):
    """Start waiting for the next batch after all other hooks of a step."""

    def __init__(self, timer: StepTimer) -> None:
        self.timer = timer

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Start waiting."""
        self.timer.wait()


def _device_of(runner: Runner) -> torch.device:
    parameter = next(runner.model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _on_gpu(device: torch.device) -> bool:
    return device.type == "cuda"


def _dtype_of(runner: Runner) -> torch.dtype:
    """Return the dtype of matrix products under the run's optimizer wrapper."""
    with runner.optim_wrapper.optim_context(runner.model):
        if torch.is_autocast_enabled("cuda"):
            return torch.get_autocast_dtype("cuda")
    return torch.float32


def _size_of(batch: Any) -> tuple[int, ...]:
    images = batch.get("inputs") if isinstance(batch, Mapping) else None
    return tuple(images.shape[-2:]) if isinstance(images, torch.Tensor) else ()


def _count_flops(runner: Runner, batch: Any) -> float | None:
    config = runner.cfg.get("model")
    if not isinstance(config, Mapping) or not isinstance(batch, Mapping) or "inputs" not in batch:
        return None
    try:
        return distillation_flops(config, batch)
    # torch raises NotImplementedError for an operator without a kernel for meta tensors.
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        runner.logger.warning(f"mfu is not logged: the FLOPs of this model cannot be counted ({error})")
        return None


def peak_flops(device: str, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """Return the peak FLOP/s of a GPU in dense matrix products.

    Args:
        device: Name from ``torch.cuda.get_device_name``.
        dtype: Dtype of the products.
        tf32: Whether float32 products may use TF32.

    Returns:
        A multiply-add counts as two; ``None`` if the GPU or its peak in ``dtype`` is unknown.
    """
    words = set(device.replace("-", " ").split())
    if words & _UNKNOWN_VARIANTS:
        return None
    for name, half, has_bfloat16, reduced, single in _PEAKS:
        if not set(name.replace("-", " ").split()) <= words:
            continue
        if dtype == torch.float16 or (dtype == torch.bfloat16 and has_bfloat16):
            return half * 1e12
        if dtype == torch.float32:
            return (reduced if tf32 and reduced is not None else single) * 1e12
        return None
    return None
