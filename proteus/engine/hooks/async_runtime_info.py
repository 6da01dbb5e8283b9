"""Losses for the log without waiting for the device in each step, and when the logger writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from proteus.compat import extend_history
from proteus.registry import HOOKS

# Largest number of buffered steps, for runs that log rarely.
_MAX_STEPS = 1000


@HOOKS.register_module()
class AsyncRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, but losses stay on the device until they are logged.

    MMEngine copies every loss to the host in every step, and each copy waits for the device. This hook buffers the
    values of each step in a small tensor on the device, and copies all of them at once before the logger writes a line,
    before validation, before a checkpoint and at the end. The message hub then has the same numbers, one per step, as
    with MMEngine's hook, so that log lines, their windows and checkpoints are the same. In between it lacks the steps
    since the last line: a hook that reads a loss from the hub in each step needs
    ``default_hooks=dict(runtime_info=dict(type='RuntimeInfoHook'))``.

    With ``AutocastOptimWrapper`` the norm of the gradients is logged as ``grad_norm``: of every step if they are
    clipped, before clipping, else of the steps of log lines. MMEngine's wrappers log it only if gradients are clipped,
    and copy it to the host in each step.
    """

    def __init__(self) -> None:
        self.buffer = _Buffer()

    def before_train(self, runner: Runner) -> None:
        """Start with an empty buffer."""
        self.buffer = _Buffer()
        if hasattr(runner.optim_wrapper, "norms"):
            runner.optim_wrapper.norms = {}
        super().before_train(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Store the iteration and the learning rates."""
        runner.message_hub.update_info("iter", runner.iter)
        if hasattr(runner.optim_wrapper, "measures_norm"):
            runner.optim_wrapper.measures_norm = is_logging_due(runner, batch_idx)
            _drop_norm(runner)
        self.buffer.add({name: rates[0] for name, rates in runner.optim_wrapper.get_lr().items()})

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Buffer the values of this step; flush if the logger is about to read them."""
        norms = getattr(runner.optim_wrapper, "norms", None)
        if norms:
            self.buffer.add(norms)
            norms.clear()
        self.buffer.add(outputs or {})
        self.buffer.steps += 1
        if self.buffer.steps >= _MAX_STEPS or is_logging_due(runner, batch_idx):
            self._flush(runner)

    def before_val(self, runner: Runner) -> None:
        """Flush, and note that validation begins."""
        self._flush(runner)
        super().before_val(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Flush, so that a resumed run has every step."""
        if self.buffer.steps:
            self._flush(runner)
            checkpoint["message_hub"] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Flush, and note that training ends."""
        self._flush(runner)
        _drop_norm(runner)
        super().after_train(runner)

    def _flush(self, runner: Runner) -> None:
        for name, values in self.buffer.read().items():
            extend_history(runner.message_hub, f"train/{name}", values)
        self.buffer = _Buffer()


def _drop_norm(runner: Runner) -> None:
    """Remove a norm that was measured for one log line only, so that no later line repeats it."""
    if not getattr(runner.optim_wrapper, "clip_grad_kwargs", None):
        runner.message_hub.log_scalars.pop("train/grad_norm", None)


class _Slot(NamedTuple):
    """Index of a value among those of its device and dtype."""

    kind: tuple[torch.device, torch.dtype]
    position: int


@dataclass
class _Buffer:
    """Values by name, in order: numbers, and slots of values on a device."""

    steps: int = 0
    values: dict[str, list[Any]] = field(default_factory=dict)
    stacks: dict[tuple[torch.device, torch.dtype], list[Tensor]] = field(default_factory=dict)
    sizes: dict[tuple[torch.device, torch.dtype], int] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any]) -> None:
        """Add values of one step.

        Raises:
            TypeError: A value is not a single number.
        """
        scalars: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for name, value in values.items():
            if isinstance(value, (Tensor, np.ndarray, np.number)) and np.prod(value.shape) != 1:
                raise TypeError(f"the model logs {name!r} of shape {tuple(value.shape)}: return a single number")
            if not isinstance(value, Tensor):
                self.values.setdefault(name, []).append(value.item() if hasattr(value, "item") else value)
                continue
            kind = (value.device, value.dtype)
            scalars.setdefault(kind, []).append(value.detach().reshape(()))
            self.values.setdefault(name, []).append(_Slot(kind, self.sizes.get(kind, 0)))
            self.sizes[kind] = self.sizes.get(kind, 0) + 1
        for kind, tensors in scalars.items():
            # Copy: the next step may overwrite the model's outputs.
            self.stacks.setdefault(kind, []).append(torch.stack(tensors))

    def read(self) -> dict[str, list[float]]:
        """Copy all values to the host, with one transfer per device and dtype."""
        numbers = {kind: torch.cat(stacks).tolist() for kind, stacks in self.stacks.items()}
        return {
            name: [numbers[value.kind][value.position] if isinstance(value, _Slot) else value for value in values]
            for name, values in self.values.items()
        }


def is_logging_due(runner: Runner, batch_idx: int) -> bool:
    """Return whether a logger writes a line after this iteration: by its interval, or because an epoch ends."""
    return any(_is_due(hook, runner, batch_idx) for hook in runner.hooks if isinstance(hook, LoggerHook))


def _is_due(logger: LoggerHook, runner: Runner, batch_idx: int) -> bool:
    if logger.every_n_inner_iters(batch_idx, logger.interval):
        return True
    logs_last = not logger.ignore_last or len(runner.train_dataloader) <= logger.interval
    return logs_last and logger.end_of_epoch(runner.train_dataloader, batch_idx)
