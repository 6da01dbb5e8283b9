"""Run a command of Proteus on several processes of this machine, with torchrun's agent."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from proteus.structures import UserError

_PROGRAM = (sys.executable, "-m", "proteus")


def check_gpus(count: int) -> int:
    """Return a number of GPUs if this machine has as many.

    Raises:
        UserError: It has fewer.
    """
    present = torch.cuda.device_count() if count else 0
    if count > present and present == 0:
        raise UserError(
            f"found {count}, but torch finds no GPU on this machine; for CPU processes write --processes {count} "
            "(in Python device='cpu')"
        )
    if count > present:
        raise UserError(f"found {count}, but this machine has {present}; write a number up to {present}")
    return count


def run_on(count: int, argv: Sequence[str], cpu: bool = False, program: Sequence[str] = _PROGRAM) -> int:
    """Run ``proteus ARGV`` on several processes, as torchrun does, and wait for all.

    The processes get torchrun's variables (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` ...) and write to this process's
    terminal. If one fails, the others get SIGTERM. SIGINT and SIGTERM are passed on.

    Args:
        count: Number of processes: one per GPU, or any number on the CPU.
        argv: Verb and arguments, with ``--launcher pytorch`` where the verb needs it.
        cpu: Hide the GPUs, so that the processes run on the CPU.
        program: What runs the arguments.

    Returns:
        0; or the status of the process that failed first, with 128 plus its number for a signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    threads = max(1, (os.cpu_count() or 1) // count)
    changed = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(threads)}
    if cpu:
        changed["CUDA_VISIBLE_DEVICES"] = ""
    with (
        tempfile.TemporaryDirectory(prefix="proteus_launch_") as folder,
        _environment(changed),
        _signals_restored(),
        _quiet_agent(),
    ):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        executable, *first = program
        sys.stdout.flush()  # before what the processes print
        try:
            elastic_launch(config, executable)(*first, *argv)
        except ChildFailedError as error:
            return _status(error.get_first_failure()[1].exitcode)
        except SignalException as error:
            return 128 + error.sigval
    return 0


def _status(exitcode: int) -> int:
    return exitcode if exitcode >= 0 else 128 - exitcode


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables; afterwards restore them, and remove those that the agent has set."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Restore the signal handlers that the agent replaces."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            try:
                signal.signal(number, handler)
            except (ValueError, TypeError):  # not the main thread, where the agent sets none; or set in C
                break


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """Drop the agent's log: a failing process has printed its error."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed")]
    levels = [(logger, logger.level) for logger in map(logging.getLogger, names)]
    for logger, _ in levels:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
