"""Running statistics of batch norm in a run of several processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from proteus.engine.hooks.online_eval import OnlineEvalHook
from proteus.registry import HOOKS
from proteus.utils.models import unwrap_model


@HOOKS.register_module()
class BatchNormHook(Hook):
    """Average the running statistics of batch norm over the processes before they are used or written.

    Each process collects them from its own images. Without this hook each would validate another model, and
    checkpoints and exports would hold the statistics of rank 0. They are averaged before a validation, an online
    evaluation and a checkpoint, and when training ends, also those in the average of ``EMAHook``. A training step does
    not read them. Layers in evaluation mode, such as a teacher's, and ``SyncBatchNorm`` are left alone.
    """

    # After StopOnNaNHook has looked for NaN, before EMAHook copies the statistics and other hooks use them.
    priority = "VERY_HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Average before an online evaluation."""
        intervals = [hook.interval for hook in runner.hooks if isinstance(hook, OnlineEvalHook)]
        due = any(self.every_n_train_iters(runner, interval) for interval in intervals)
        if due or (intervals and self.is_last_train_iter(runner)):
            self._average(runner)

    def before_val(self, runner: Runner) -> None:
        """Average before a validation."""
        self._average(runner)

    def before_save(self, runner: Runner) -> None:
        """Average before a checkpoint."""
        self._average(runner)

    def after_train(self, runner: Runner) -> None:
        """Average before the export."""
        self._average(runner)

    def _average(self, runner: Runner) -> None:
        if get_world_size() == 1:
            return
        model = unwrap_model(runner.model)
        names = [name for name, module in model.named_modules() if _has_own_statistics(module)]
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        statistics = [each for root in (model, *averages) for each in _statistics(root, names)]
        if statistics:
            all_reduce_params(statistics, op="mean")


def _has_own_statistics(module: nn.Module) -> bool:
    """Whether a training step collects statistics in a layer from the images of this process alone."""
    return isinstance(module, _NormBase) and module.training and not isinstance(module, nn.SyncBatchNorm)


def _statistics(model: nn.Module, names: list[str]) -> Iterator[Tensor]:
    for name in names:
        module: Any = model.get_submodule(name)
        if module.running_mean is not None:
            yield from (module.running_mean, module.running_var)
