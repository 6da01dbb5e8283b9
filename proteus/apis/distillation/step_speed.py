"""Measure the time of a distillation step on this machine, for a run with a budget in hours."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from proteus.apis.distillation.model import without_weights
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
        step_seconds: Teacher, student, backward pass and optimizer on a batch.
        load_seconds: Loading a batch on one core.
    """

    step_seconds: float
    load_seconds: float


def measure(cfg: Config, batch_size: int, device: str, processes: int = 1) -> StepSpeed:
    """Time a few training steps of a distiller with random weights on images of its training set.

    Args:
        cfg: Config of the run: model, optimizer and training set. Weight files are not read.
        batch_size: Images of a batch of one process.
        device: Device to run on.
        processes: Number of processes of the run, which share the CPU's cores.
    """
    dataset = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    count = min(batch_size, _MAX_LOADED)
    start = time.perf_counter()
    samples = [dataset[SampleKey(_SEED, 0, index % len(dataset))] for index in range(count)]
    load = (time.perf_counter() - start) * batch_size / count
    batch = distill_collate([samples[index % count] for index in range(batch_size)])
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if device != "cpu" else []):
        model = MODELS.build(without_weights(cfg.model)).to(device).train()
        optim_wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        with _threads_of_a_process(processes if device == "cpu" else 1):
            seconds = _time(lambda: model.train_step(dict(batch), optim_wrapper), device)
    if device != "cpu":
        del model, optim_wrapper
        torch.cuda.empty_cache()  # the processes that train need the memory
    return StepSpeed(seconds, load)


@contextmanager
def _threads_of_a_process(processes: int) -> Iterator[None]:
    """Compute with the threads that each of several processes will have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads // processes, 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _time(step: Callable[[], object], device: str) -> float:
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
