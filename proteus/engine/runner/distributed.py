"""Several processes, with or without GPUs."""

from __future__ import annotations

import logging
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config


def prepare_processes(cfg: Config) -> None:
    """Let ``launcher='pytorch'`` work where there is no GPU.

    MMEngine asks for a CUDA device for every rank. On a machine without one, join the gloo group that torchrun's
    environment describes before the runner looks, and wrap the model without a device.
    """
    if cfg.get("launcher", "none") == "none" or torch.cuda.is_available():
        return
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
    }


def leave_processes(status: int) -> None:
    """End this process with ``status`` once all others are done; return at once where there are none.

    The group is not torn down. A rank was seen to end with SIGABRT after its work was done; that the teardown beside
    peers that are leaving did it is a suspicion, not a finding.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
