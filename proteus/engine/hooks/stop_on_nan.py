"""Stop a run that diverges."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor

from proteus.engine.hooks.async_runtime_info import is_logging_due
from proteus.engine.runner.distributed import any_rank
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils import atomic_path
from proteus.utils.models import unwrap_model


class DivergedError(UserError):
    """A loss, a gradient norm or a weight is NaN or infinite."""


@dataclass
class _Step:
    """Data of an iteration that is kept until its losses are read."""

    iteration: int
    names: list[str]
    values: Tensor | None
    numbers: dict[str, float] = field(default_factory=dict)
    batch: Any = None
    bytes: int = 0


@HOOKS.register_module()
class StopOnNaNHook(Hook):
    """Stop the run when a loss, the gradient norm or a trained weight is NaN or infinite.

    The error names the iteration and the terms. No checkpoint is written with such weights, none is
    removed and nothing is exported. ``nan_iter_<N>.pth`` in the work directory describes the iteration: losses, images,
    masks, sample keys and batch of the rank that saw it, the run's seed, and the checkpoint from which a resumed run
    gets there again (docs/distil.md#a-run-that-diverges).

    The losses stay on the device. They are read at the first iteration, every ``interval`` iterations, before a log
    line, a validation and a checkpoint, and at the end; weights are read before a checkpoint and at the end. All ranks
    stop at the same iteration. With a gradient scaler (``AmpOptimWrapper``) an infinite gradient norm is normal, and
    only losses and weights count.

    Args:
        interval: Iterations between readings; on a CPU every iteration is read.
        keep_mb: Largest size of the batches kept for the file, in MB; for earlier iterations the file has only the
            images' names.

    Raises:
        DivergedError: From the run, on every rank.
        ValueError: ``interval`` is below 1, or ``keep_mb`` below 0.
    """

    # Before the hook that clears the gradient norms, and before hooks that write files at the end.
    priority = 0

    def __init__(self, interval: int = 10, keep_mb: float = 256) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f"StopOnNaNHook.interval={interval!r}: write a whole number above 0")
        if not keep_mb >= 0:
            raise ValueError(f"StopOnNaNHook.keep_mb={keep_mb!r}: write 0 or more")
        self.interval, self.keep_bytes = interval, int(keep_mb * 2**20)
        self.steps: deque[_Step] = deque()
        self.first, self.iteration = True, 0

    def before_train(self, runner: Runner) -> None:
        """Start with an empty buffer."""
        self.steps.clear()
        self.first, self.iteration = True, runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keep the losses; read them if a reading is due."""
        self.iteration = runner.iter + 1
        self._keep(runner, data_batch, outputs or {})
        due = self.first or self.every_n_train_iters(runner, self.interval) or is_logging_due(runner, batch_idx)
        self.first = False
        if due or _device(runner).type == "cpu":
            self._check_losses(runner)

    def before_val(self, runner: Runner) -> None:
        """Read the losses."""
        self._check_losses(runner)

    def before_save(self, runner: Runner) -> None:
        """Read losses and weights before a checkpoint is written."""
        self._check_losses(runner)
        self._check_weights(runner)

    def after_train(self, runner: Runner) -> None:
        """Read losses and weights before anything is exported."""
        self.before_save(runner)

    def _keep(self, runner: Runner, batch: Any, outputs: Mapping[str, Any]) -> None:
        terms = {name: value for name, value in outputs.items() if "loss" in name}
        if not hasattr(runner.optim_wrapper, "loss_scaler"):
            terms |= _gradient_norms(runner)
        tensors = {name: value for name, value in terms.items() if isinstance(value, Tensor) and value.numel() == 1}
        numbers = {name: float(value) for name, value in terms.items() if isinstance(value, (int, float))}
        values = torch.stack([each.detach().reshape(()).float() for each in tensors.values()]) if tensors else None
        size = sum(tensor.nbytes for tensor in _tensors(batch))
        self.steps.append(_Step(self.iteration, list(tensors), values, numbers, batch, size))
        kept = 0
        for step in reversed(self.steps):
            kept += step.bytes
            if kept > self.keep_bytes and step.bytes:
                step.batch, step.bytes = _plain(step.batch, tensors=False), 0

    def _check_losses(self, runner: Runner) -> None:
        bad = self._first_bad()
        self.steps.clear()
        if not any_rank(bad is not None):
            return
        everyones = all_gather_object(bad and (bad[0].iteration, bad[1]))
        found = [(*seen, rank) for rank, seen in enumerate(everyones) if seen]
        iteration, terms, rank = min(found, key=lambda each: each[0])
        where = f" on rank {rank}" if len(everyones) > 1 else ""
        path = Path(runner.work_dir) / f"nan_iter_{iteration}.pth"
        if bad is not None and rank == get_rank():
            _describe(runner, path, *bad)
        shown = ", ".join(f"{name} = {value}" for name, value in terms.items())
        raise DivergedError(
            f"stopped: {shown} at iteration {iteration}{where}; {_last(runner)}; the batch is in {path}. "
            "Lower the learning rate, clip gradients (optim_wrapper.clip_grad), or look for NaN in weights and data"
        )

    def _first_bad(self) -> tuple[_Step, dict[str, float]] | None:
        found = [step.values for step in self.steps if step.values is not None]
        numbers = iter(torch.cat(found).tolist() if found else ())
        for step in self.steps:
            terms = {**{name: next(numbers) for name in step.names}, **step.numbers}
            if not all(map(math.isfinite, terms.values())):
                step.numbers = terms
                return step, {name: value for name, value in terms.items() if not math.isfinite(value)}
        return None

    def _check_weights(self, runner: Runner) -> None:
        names = [name for name in all_gather_object(_first_bad_weight(runner)) if name]
        if names:
            raise DivergedError(
                f"stopped: {names[0]} holds NaN or infinity after iteration {self.iteration}; {_last(runner)}. "
                "Lower the learning rate or clip gradients (optim_wrapper.clip_grad)"
            )


def _gradient_norms(runner: Runner) -> dict[str, Any]:
    wrapper = runner.optim_wrapper
    norms = getattr(wrapper, "norms", None)
    if norms is not None:  # on the device
        return dict(norms)
    name = "train/grad_norm"  # read by MMEngine's wrapper
    if getattr(wrapper, "clip_grad_kwargs", None) and name in runner.message_hub.log_scalars:
        return {"grad_norm": float(runner.message_hub.get_scalar(name).current())}
    return {}


def _first_bad_weight(runner: Runner) -> str | None:
    """Name of the first trained weight, or average of it, that is not finite, or of the first buffer with NaN."""
    model = unwrap_model(runner.model)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    weights = dict(trained)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            averages = dict(hook.ema_model.module.named_parameters())
            weights |= {f"average of {name}": averages[name] for name in trained if name in averages}
    # Buffers may hold attention masks with minus infinity.
    buffers = {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    flags = [~weight.isfinite().all() for weight in weights.values()]
    flags += [buffer.isnan().any() for buffer in buffers.values()]
    if not flags:
        return None
    bad = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return next((name for name, is_bad in zip([*weights, *buffers], bad, strict=True) if is_bad), None)


def _describe(runner: Runner, path: Path, step: _Step, terms: dict[str, float]) -> None:
    """Save the data of an iteration as tensors and plain containers."""
    last = runner.message_hub.get_info("last_ckpt")
    content = {
        "iteration": step.iteration,
        "rank": get_rank(),
        "terms": terms,
        "losses": step.numbers,
        "batch": _plain(step.batch),
        "seed": runner.seed,
        "resume_from": str(last) if last else None,
        "config": runner.cfg.pretty_text,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _last(runner: Runner) -> str:
    last = runner.message_hub.get_info("last_ckpt")
    return f"the last good checkpoint is {last}" if last else "no checkpoint had been saved"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
    elif isinstance(value, BaseDataElement):
        yield from _tensors(value.to_dict())


def _plain(value: Any, tensors: bool = True) -> Any:
    """Convert a batch to types that ``torch.load(weights_only=True)`` reads, with or without its tensors."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.copy())
    if isinstance(value, Tensor):
        return value.detach().cpu().clone() if tensors else None
    if isinstance(value, BaseDataElement):
        value = {**value.metainfo, **value.to_dict()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, tensors) for item in value]
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def _device(runner: Runner) -> torch.device:
    parameter = next(runner.model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
