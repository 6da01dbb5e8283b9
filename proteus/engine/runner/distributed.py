"""Set up and end the processes of a run, with or without GPUs, and compare values between them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_backend, get_world_size, init_dist
from mmengine.utils.dl_utils import set_multi_processing

from proteus.structures import UserError

# Environment variables that each launcher sets.
_LAUNCHED = {
    "pytorch": ("torchrun or tools/dist_train.sh", ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")),
    "slurm": ("srun or tools/slurm_train.sh", ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODELIST")),
    "mpi": ("mpirun", ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")),
}


def prepare_processes(cfg: Config) -> None:
    """Connect the processes of a run, also without GPUs, and wrap the model in :class:`DataParallel`.

    MMEngine requires a CUDA device for every rank. Without GPUs this joins torchrun's gloo group before MMEngine's
    runner would fail. With GPUs it also connects the processes early, so that they agree on the work directory before
    anything is written. ``model_wrapper_cfg`` in the config takes precedence over :class:`DataParallel`.

    Raises:
        UserError: The launcher did not start this process, or the processes cannot be connected.
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
    """Check the launcher's variables; a rank out of range would hang for half an hour."""
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
    # The runner's order: first the start method of workers.
    set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
    init_dist(launcher, **env.get("dist_cfg", {}))


@contextmanager
def keep_start_method() -> Iterator[None]:
    """Leave the start method of this process's children as it was before a run.

    MMEngine's runner sets ``env_cfg.mp_cfg.mp_start_method`` for the whole process, and what starts the workers of its
    loaders reads it there. Without this, processes that a notebook starts after a run would be forked as well.
    """
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)  # None: not chosen yet


def leave_processes(status: int) -> None:
    """End this process with ``status`` once all others are done; return at once in a single process.

    The process group is not destroyed: a rank was once seen to end with SIGABRT after its work was done, and the
    destruction while other ranks exit is suspected, not proven, to be the cause.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def any_rank(flag: bool) -> bool:
    """Return whether ``flag`` is true on any rank; every rank must call this in the same iteration."""
    return bool(max_over_ranks(int(flag)))


def max_over_ranks(value: int) -> int:
    """Return the largest value of all ranks; with NCCL the call waits for the device."""
    if get_world_size() == 1:
        return value
    device = "cuda" if get_backend() == "nccl" else "cpu"
    number = torch.tensor(value, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)
