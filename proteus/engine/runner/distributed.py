"""Several processes, with or without GPUs."""

from __future__ import annotations

import logging
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config


def prepare_processes(cfg: Config) -> None:
    """Let ``launcher='pytorch'`` work where there is no GPU, and models split their batches.

    MMEngine asks for a CUDA device for every rank. On a machine without one, join the gloo group that torchrun's
    environment describes before the runner looks. The model is wrapped by :class:`DataParallel` unless the config names
    another wrapper.
    """
    if cfg.get("launcher", "none") == "none":
        return
    if not torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("gloo")
    wrapper = {"type": "proteus.DataParallel", **(cfg.get("model_wrapper_cfg") or {})}
    wrapper.setdefault("find_unused_parameters", cfg.get("find_unused_parameters", False))
    cfg.model_wrapper_cfg = wrapper


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
