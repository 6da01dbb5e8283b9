"""Several processes, with or without GPUs."""

from __future__ import annotations

import logging
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing

from proteus.structures import UserError

# What each launcher puts into the environment of its processes.
_LAUNCHED = {
    "pytorch": ("torchrun or tools/dist_train.sh", ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")),
    "slurm": ("srun or tools/slurm_train.sh", ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST")),
    "mpi": ("mpirun", ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")),
}


def prepare_processes(cfg: Config) -> None:
    """Let ``launcher='pytorch'`` work where there is no GPU, and models split their batches.

    MMEngine asks for a CUDA device for every rank. On a machine without one, join the gloo group that torchrun's
    environment describes before the runner looks. With GPUs the processes find each other here, too, so that they can
    agree on the work directory before anything is written. The model is wrapped by :class:`DataParallel` unless the
    config names another wrapper.

    Raises:
        UserError: The launcher did not start this process, or the processes do not find each other.
    """
    launcher = cfg.get("launcher", "none")
    if launcher == "none":
        return
    if not dist.is_initialized():
        starter, variables = _LAUNCHED[launcher]
        absent = [name for name in variables if name not in os.environ]
        if absent:
            raise UserError(
                f"--launcher {launcher}: {absent[0]} is not set; start the processes with {starter}, or leave "
                "--launcher out for one process"
            )
        try:
            _check_numbers(launcher)
            _join(cfg, launcher)
        except (ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"--launcher {launcher}: the processes cannot be connected: {error}") from error
    wrapper = {"type": "proteus.DataParallel", **(cfg.get("model_wrapper_cfg") or {})}
    wrapper.setdefault("find_unused_parameters", cfg.get("find_unused_parameters", False))
    cfg.model_wrapper_cfg = wrapper


def _check_numbers(launcher: str) -> None:
    """Refuse variables that are not numbers, and a rank out of range, which would hang for half an hour."""
    for name in _LAUNCHED[launcher][1]:
        if name not in ("MASTER_ADDR", "SLURM_NODELIST") and not os.environ[name].strip().isdecimal():
            raise ValueError(f"found {name}={os.environ[name]!r}, expected a non-negative integer")
    names = {"pytorch": ("RANK", "WORLD_SIZE"), "slurm": ("SLURM_PROCID", "SLURM_NTASKS")}
    rank, size = names.get(launcher, ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
    if int(os.environ[rank]) >= int(os.environ[size]):
        raise ValueError(f"{rank} is {os.environ[rank]} and {size} is {os.environ[size]}")


def _join(cfg: Config, launcher: str) -> None:
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return
    env = cfg.get("env_cfg") or {}
    # In the runner's order: its start method for workers comes first.
    set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
    init_dist(launcher, **env.get("dist_cfg", {}))


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
