"""When the logger is about to speak."""

from __future__ import annotations

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


def logs_now(runner: Runner, batch_idx: int) -> bool:
    """Whether a logger may write a line after this training iteration, by its interval or because an epoch ends."""
    return any(
        hook.every_n_inner_iters(batch_idx, hook.interval) or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        for hook in runner.hooks
        if isinstance(hook, LoggerHook)
    )
