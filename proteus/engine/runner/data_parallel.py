"""Data parallelism."""

from __future__ import annotations

import os
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from proteus.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class DataParallel(MMDistributedDataParallel):
    """MMEngine's ``MMDistributedDataParallel`` for CPUs and GPUs, and for models that split batches into micro-batches.

    Gradients are views of the communication buckets, which saves a copy.

    Args:
        module: The model.
        device_ids: The process's GPU; ignored without GPUs.
        **options: Arguments of MMEngine's ``MMDistributedDataParallel``.
    """

    def __init__(self, module: nn.Module, device_ids: list[int] | None = None, **options: Any) -> None:
        if not torch.cuda.is_available():
            device_ids = None
        elif device_ids is None:
            device_ids = [int(os.environ["LOCAL_RANK"])]
        options = {"broadcast_buffers": False, "gradient_as_bucket_view": True, **options}
        super().__init__(module=module, device_ids=device_ids, **options)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run one optimizer step on a batch; see :class:`~proteus.models.distillers.MicroBatchedModel`."""
        if getattr(self.module, "micro_batches", 1) == 1:
            return super().train_step(data, optim_wrapper)
        return self.module.train_step_in_parts(self, data, optim_wrapper)
