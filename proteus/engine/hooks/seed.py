"""Reproducible random numbers of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS


@HOOKS.register_module()
class SeedEachStepHook(Hook):
    """Seed torch in each iteration from seed, iteration and rank.

    A resumed run then draws the same random numbers (for drop path, for example) as an uninterrupted one.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch on every device."""
        key = np.random.SeedSequence((runner.seed, runner.iter, get_rank())).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(key >> np.uint64(1)))
