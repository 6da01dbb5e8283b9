"""When the logger is about to speak."""

from __future__ import annotations

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


def logs_now(runner: Runner, batch_idx: int) -> bool:
    """Whether a logger writes a line after this training iteration: by its interval, or because an epoch ends."""
    return any(_is_due(hook, runner, batch_idx) for hook in runner.hooks if isinstance(hook, LoggerHook))


def _is_due(logger: LoggerHook, runner: Runner, batch_idx: int) -> bool:
    if logger.every_n_inner_iters(batch_idx, logger.interval):
        return True
    takes_last = not logger.ignore_last or len(runner.train_dataloader) <= logger.interval
    return takes_last and logger.end_of_epoch(runner.train_dataloader, batch_idx)
