"""``--gpus N`` and ``--processes N``: run a verb again on several processes."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence

import torch

from proteus.apis.launch import check_gpus, run_on
from proteus.cli.arguments import integer, positive_int
from proteus.structures import UserError

__all__ = ["add_processes", "gpus", "launch", "leave_gpus", "run_on", "wants_processes"]


def gpus(text: str) -> int:
    """Parse a number of GPUs that this machine has.

    Raises:
        ArgumentTypeError: The number is negative, or the machine has fewer.
    """
    try:
        return check_gpus(integer(0)(text))
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def add_processes(parser: ArgumentParser) -> None:
    """Add ``--gpus`` and ``--processes`` to a verb that has ``--launcher``.

    :func:`~proteus.cli.run.run` then runs the verb again on the processes. A verb that starts them itself has its own
    arguments instead, with the type :func:`gpus`.
    """
    parser.set_defaults(run_again=True)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--gpus",
        type=gpus,
        metavar="N",
        help="processes, one per GPU; 0 uses the CPU (default: one process)",
    )
    group.add_argument("--processes", type=positive_int, metavar="N", help="run N processes on the CPU")


def wants_processes(arguments: Namespace) -> bool:
    """Whether a verb is to be run again on several processes, or on the CPU; hide the GPUs for the latter."""
    if not getattr(arguments, "run_again", False):
        return False
    count, processes = arguments.gpus, arguments.processes
    if count is None and processes is None:
        return False
    if getattr(arguments, "launcher", None) not in (None, "none"):
        raise UserError(
            f"--launcher {arguments.launcher} starts the processes itself; leave out --gpus and --processes"
        )
    if not count:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CUDA reads it when first used
    several, device = (count or processes or 1) > 1, getattr(arguments, "device", None)
    if several and str(device) not in ("None", "cuda" if count else "cpu"):
        raise UserError(
            f"--device {device}: each of several processes has its device; leave it out, or --gpus and --processes"
        )
    return several and not getattr(arguments, "check", False)  # a config is checked once


def leave_gpus(arguments: Namespace) -> None:
    """Start this program again if :func:`wants_processes` hid the GPUs too late, after an import has counted them."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if getattr(arguments, "run_again", False) and hidden and torch.cuda.is_available():
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def launch(arguments: Namespace, command: Sequence[str]) -> int:
    """Run a verb on the processes that its arguments ask for.

    Args:
        arguments: Parsed arguments, with ``gpus`` or ``processes``.
        command: The verb and its arguments as they were written.

    Returns:
        The status of the processes.
    """
    verb, *rest = _without(command, ("--gpus", "--processes"))
    return run_on(arguments.gpus or arguments.processes, [verb, "--launcher", "pytorch", *rest], cpu=not arguments.gpus)


def _without(command: Sequence[str], options: Sequence[str]) -> list[str]:
    """Remove options with their values from a command line."""
    kept: list[str] = []
    words = iter(command)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept
