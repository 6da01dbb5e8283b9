"""Measure the time of a distillation step on this machine, for a run with a budget in hours."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config

from proteus.datasets import SampleKey
from proteus.datasets.proxy.collate import distill_collate
from proteus.registry import DATASETS, MODELS

# Steps that are not timed: the first ones allocate memory and choose kernels.
_WARMUP = 2
_MAX_STEPS = 10
_MAX_SECONDS = 5.0
_MAX_LOADED = 32
_SEED = 2**31


@dataclass(frozen=True)
class StepSpeed:
    """Measured times of one step.

    Attributes:
        step_seconds: Forward and backward pass of a batch, and the optimizer's step.
        load_seconds: Loading a batch on one core.
    """

    step_seconds: float
    load_seconds: float


def measure(cfg: Config, batch_size: int, dtype: str, device: str) -> StepSpeed:
    """Time a few steps of a distiller with random weights on images of its training set.

    Args:
        cfg: Config of the run; weight files are not read.
        batch_size: Images of a batch of one process.
        dtype: ``bfloat16`` or ``float32``.
        device: Device to run on.
    """
    dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    count = min(batch_size, _MAX_LOADED)
    start = time.perf_counter()
    samples = [dataset[SampleKey(_SEED, 0, index % len(dataset))] for index in range(count)]
    load = (time.perf_counter() - start) * batch_size / count
    batch = distill_collate([samples[index % count] for index in range(batch_size)])
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device != "cpu" else []):
        model = _build(cfg).to(device).train()
        optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-6)

        def step() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                losses = model(**model.data_preprocessor(dict(batch), True), mode="loss")
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return StepSpeed(_time(step, device), load)


def _build(cfg: Config) -> Any:
    config = copy.deepcopy(cfg.model)
    for part in (config.teacher.backbone, config.student):
        part.pop("checkpoint", None)
        part.pop("init_cfg", None)
    return MODELS.build(config)


def _time(step: Callable[[], None], device: str) -> float:
    """Return the seconds of one call, after warm-up."""

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    for _ in range(_WARMUP):
        step()
    wait()
    start, steps = time.perf_counter(), 0
    while steps < _MAX_STEPS and time.perf_counter() - start < _MAX_SECONDS:
        step()
        wait()
        steps += 1
    return (time.perf_counter() - start) / steps
