"""How fast the run is, and what it waits for."""

from __future__ import annotations

import resource
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Add to each log line ``images_per_s`` (over all ranks), ``data_wait`` (share of the time spent waiting for
    data, 0 to 1) and, where there is no GPU whose memory MMEngine logs, ``memory`` (this process's peak, in MB).

    It reads MMEngine's iteration timer and stands between it and the logger.
    """

    priority = 55

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Record this iteration's figures; the log processor averages them."""
        hub = runner.message_hub
        seconds = max(hub.get_scalar("train/time").current(), 1e-9)
        # mmseg's batches have no "metas".
        images = len(next(data_batch[key] for key in ("metas", "inputs", "images") if key in data_batch))
        images *= get_world_size()
        hub.update_scalar("train/images_per_s", images / seconds)
        hub.update_scalar("train/data_wait", hub.get_scalar("train/data_time").current() / seconds)
        if not torch.cuda.is_available():
            hub.update_scalar("train/memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
