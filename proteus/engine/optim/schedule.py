"""The learning rate as it was in the released runs."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from proteus.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DeiTCosineLR(_ParamScheduler):
    """Linear warm-up and cosine, stepped once an epoch, as in DeiT and the released code.

    Both step the schedule *after* each epoch with the number of the epoch just done, so that the first two epochs run
    at ``warmup_lr`` and the last never reaches ``min_lr``: epoch ``e`` runs at the value of ``max(e - 1, 0)``
    (docs/reproduction.md#distillation-schedule).

    Args:
        optimizer: The optimizer; the runner fills it in.
        epochs: Length of the schedule.
        iters_per_epoch: Iterations that count as an epoch; 1251 for ImageNet-1K in batches of 1024.
        warmup_epochs: Epochs of linear warm-up.
        warmup_lr: Where the warm-up starts; not scaled with the batch.
        min_lr: Where the cosine ends; not scaled with the batch.
        begin: Not used: the schedule starts with the run.
        end: Not used: the run is meant to end with the schedule. MMEngine's runner proposes its loop's number of epochs
            here, which is 1 for a loop of iterations.
        last_step: As for MMEngine's schedulers.
        verbose: As for MMEngine's schedulers.
    """

    def __init__(
        self,
        optimizer: Any,
        epochs: int,
        iters_per_epoch: int,
        warmup_epochs: int = 5,
        warmup_lr: float = 1e-6,
        min_lr: float = 1e-5,
        begin: int = 0,
        end: int | None = None,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        self.epochs = epochs
        self.iters_per_epoch = iters_per_epoch
        self.warmup_epochs = warmup_epochs
        self.warmup_lr = warmup_lr
        self.min_lr = min_lr
        super().__init__(optimizer, "lr", by_epoch=False, last_step=last_step, verbose=verbose)

    def _get_value(self) -> list[float]:
        return [self.value_at(self.last_step, base) for base in self.base_values]

    def value_at(self, iteration: int, base_lr: float) -> float:
        """The learning rate of an iteration, counted from 0, for a peak of ``base_lr``."""
        epoch = max(iteration // self.iters_per_epoch - 1, 0)
        if epoch < self.warmup_epochs:
            return self.warmup_lr + epoch * (base_lr - self.warmup_lr) / self.warmup_epochs
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return self.min_lr + (base_lr - self.min_lr) * cosine
