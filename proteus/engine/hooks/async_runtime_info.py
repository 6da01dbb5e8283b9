"""Losses for the log, without waiting for the device at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner
from torch import Tensor

from proteus.engine.hooks.logging_due import logs_now
from proteus.registry import HOOKS

# Steps that are kept at most, where nothing is logged for long.
_MOST = 1000


@HOOKS.register_module()
class AsyncRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, except that what the model returns stays on the device until it is logged.

    MMEngine reads every loss at every step, and each reading waits until the device has finished. This hook keeps the
    values of each step in one small tensor on the device, and reads all of them in one go before the logger writes a
    line, before validation, before a checkpoint and at the end. The message hub then holds the same numbers, one for
    each step, as with MMEngine's hook, so that log lines, their windows and checkpoints are the same. In between it
    lacks the steps since the last line: a hook that reads a loss from the hub at each step needs
    ``default_hooks=dict(runtime_info=dict(type='RuntimeInfoHook'))``.

    ``AutocastOptimWrapper`` leaves the norm of clipped gradients to it likewise; MMEngine's wrappers read theirs at
    each step.
    """

    def __init__(self) -> None:
        self.kept = _Kept()

    def before_train(self, runner: Runner) -> None:
        """Start with nothing kept."""
        self.kept = _Kept()
        if hasattr(runner.optim_wrapper, "norms"):
            runner.optim_wrapper.norms = {}
        super().before_train(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note the iteration and the learning rates."""
        runner.message_hub.update_info("iter", runner.iter)
        self.kept.add({name: rates[0] for name, rates in runner.optim_wrapper.get_lr().items()})

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keep this step's values; hand all over if the logger is about to read them."""
        norms = getattr(runner.optim_wrapper, "norms", None)
        if norms:
            self.kept.add(norms)
            norms.clear()
        self.kept.add(outputs or {})
        self.kept.steps += 1
        if self.kept.steps >= _MOST or logs_now(runner, batch_idx):
            self._hand_over(runner)

    def before_val(self, runner: Runner) -> None:
        """Hand over, and note that validation begins."""
        self._hand_over(runner)
        super().before_val(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Hand over, so that a resumed run has every step."""
        if self.kept.steps:
            self._hand_over(runner)
            checkpoint["message_hub"] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Hand over, and note that training is over."""
        self._hand_over(runner)
        super().after_train(runner)

    def _hand_over(self, runner: Runner) -> None:
        for name, values in self.kept.read().items():
            extend(runner.message_hub, f"train/{name}", values)
        self.kept = _Kept()


class _Place(NamedTuple):
    """Where a value lies among those of its device and dtype."""

    kind: tuple[torch.device, torch.dtype]
    number: int


@dataclass
class _Kept:
    """Values by name, in order: numbers, and places of what is still on a device."""

    steps: int = 0
    values: dict[str, list[Any]] = field(default_factory=dict)
    stacks: dict[tuple[torch.device, torch.dtype], list[Tensor]] = field(default_factory=dict)
    sizes: dict[tuple[torch.device, torch.dtype], int] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any]) -> None:
        """Keep some values of one step.

        Raises:
            TypeError: A value is no single number.
        """
        scalars: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for name, value in values.items():
            if isinstance(value, (Tensor, np.ndarray, np.number)) and np.prod(value.shape) != 1:
                raise TypeError(f"the model logs {name!r} of shape {tuple(value.shape)}: give a single number")
            if not isinstance(value, Tensor):
                self.values.setdefault(name, []).append(value.item() if hasattr(value, "item") else value)
                continue
            kind = (value.device, value.dtype)
            scalars.setdefault(kind, []).append(value.detach().reshape(()))
            self.values.setdefault(name, []).append(_Place(kind, self.sizes.get(kind, 0)))
            self.sizes[kind] = self.sizes.get(kind, 0) + 1
        for kind, tensors in scalars.items():
            # A copy: what the model returned may be overwritten by the next step.
            self.stacks.setdefault(kind, []).append(torch.stack(tensors))

    def read(self) -> dict[str, list[float]]:
        """Fetch everything, with one transfer for each device and dtype."""
        numbers = {kind: torch.cat(stacks).tolist() for kind, stacks in self.stacks.items()}
        return {
            name: [numbers[value.kind][value.number] if isinstance(value, _Place) else value for value in values]
            for name, values in self.values.items()
        }


def extend(hub: MessageHub, name: str, values: Sequence[float]) -> None:
    """Append to a history of the hub, as ``update_scalar`` would one by one; that copies the history each time."""
    hub.update_scalar(name, values[0])
    if len(values) == 1:
        return
    buffer = hub.get_scalar(name)
    history, counts = buffer.data
    history, counts = np.append(history, values[1:]), np.append(counts, [1] * (len(values) - 1))
    most = buffer.max_length
    hub.log_scalars[name] = HistoryBuffer(history[-most:], counts[-most:], most)
