"""Looking at a model in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from proteus.datasets import seeded


@contextmanager
def eval_mode(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Run the block in evaluation mode and without gradient, and leave no trace of it.

    Afterwards each module is in the mode that it was in, and the random states of Python, NumPy and torch (the CPU and
    the current GPU) are what they were. Buffers that only training changes (batch norm's) stay as they are.

    Args:
        model: Its modules are switched one by one, since ``eval()`` of a guest may do more than that.
        seed: What the block draws, it draws from this seed.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), seeded(seed), torch.no_grad():
        for module, _ in modes:
            module.training = False
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
