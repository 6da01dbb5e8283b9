"""Learning-rate schedules: the released code's cosine, and MMEngine's one-cycle schedule with a safe state."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import OneCycleLR as _OneCycleLR
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from proteus.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class DeiTCosineLR(_ParamScheduler):
    """Linear warm-up and cosine, stepped once per epoch, as in DeiT and the released code.

    Both step the schedule *after* each epoch with the number of the finished epoch, so that the first two epochs run
    at ``warmup_lr`` and the last does not reach ``min_lr``: epoch ``e`` runs at the value of ``max(e - 1, 0)``
    (docs/reproduction.md#distillation-schedule). Later epochs of a longer run stay at ``min_lr``.

    Args:
        optimizer: The optimizer; the runner provides it.
        epochs: Length of the schedule.
        iters_per_epoch: Iterations per epoch; 1251 for ImageNet-1K in batches of 1024.
        warmup_epochs: Epochs of linear warm-up.
        warmup_lr: Learning rate at the start of the warm-up; not scaled with the batch size.
        min_lr: Learning rate at the end of the cosine; not scaled with the batch size.
        begin: Ignored: the schedule starts with the run.
        end: Ignored: the schedule lasts ``epochs * iters_per_epoch`` iterations. MMEngine's runner passes its loop's
            number of epochs, which is 1 for a loop of iterations.
        last_step: See MMEngine's schedulers.
        verbose: See MMEngine's schedulers.
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
        """Return the learning rate of an iteration, counted from 0, for a peak of ``base_lr``."""
        epoch = max(iteration // self.iters_per_epoch - 1, 0)
        if epoch < self.warmup_epochs:
            return self.warmup_lr + epoch * (base_lr - self.warmup_lr) / self.warmup_epochs
        if epoch >= self.epochs:
            return self.min_lr
        cosine = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return self.min_lr + (base_lr - self.min_lr) * cosine


@PARAM_SCHEDULERS.register_module()
class OneCycleLR(_OneCycleLR):
    """MMEngine's ``OneCycleLR`` with a state that can be loaded without running code.

    MMEngine's state holds a function, so that checkpoints with it would import code and are refused when they are
    loaded. The peak ``eta_max`` is the same for all parameter groups: multipliers of the learning rate have no effect.

    Args:
        **schedule: Arguments of MMEngine's ``OneCycleLR``.
    """

    def __init__(self, optimizer: Any, **schedule: Any) -> None:
        super().__init__(optimizer, **schedule)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the function, which the constructor makes again."""
        return {key: value for key, value in super().state_dict().items() if key != "anneal_func"}
