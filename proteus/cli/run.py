"""Shared parts of the commands and tools: arguments, running one, printing its errors."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import select
import sys
import tempfile
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

import torch.distributed as dist

from proteus.apis.resources import check_device, check_file, check_folder, check_out_folder
from proteus.cli.arguments import (
    KeyValues,
    ToolParser,
    add_key_values,
    device,
    existing_file,
    existing_folder,
    integer,
    non_negative_int,
    non_negative_number,
    number,
    out_file,
    out_folder,
    out_folder_or_url,
    positive_int,
    positive_number,
    verb_parser,
)
from proteus.cli.launch import add_processes, launch, leave_gpus, wants_processes
from proteus.compat import default_store, log_folders
from proteus.structures import ConfigError
from proteus.utils.user_errors import foreign_culprit, mistake, name_and_words

__all__ = [
    "KeyValues",
    "ToolParser",
    "add_config_arguments",
    "add_key_values",
    "add_launcher",
    "add_processes",
    "check_device",
    "check_file",
    "check_folder",
    "check_out_folder",
    "device",
    "existing_file",
    "existing_folder",
    "first_to_print",
    "integer",
    "non_negative_int",
    "non_negative_number",
    "number",
    "out_file",
    "out_folder",
    "out_folder_or_url",
    "positive_int",
    "positive_number",
    "run",
    "verb_parser",
]


def add_config_arguments(parser: ArgumentParser) -> ArgumentParser:
    """Add the arguments of tools that read a config."""
    parser.add_argument("config", help="config file or name, such as vit-s_dinov2-b")
    parser.add_argument(
        "--work-dir", type=out_folder, help="folder for logs and checkpoints (default: work_dirs/<config>)"
    )
    add_key_values(parser, "override config keys: train_dataloader.batch_size=64 model.objectives.patch=None")
    add_launcher(parser)
    return parser


def add_launcher(parser: ArgumentParser) -> None:
    """Add the arguments of tools that run on several processes."""
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        help="launcher of the processes (default: none)",
    )
    parser.add_argument(
        "--local_rank", "--local-rank", type=non_negative_int, help="set by some launchers; read from LOCAL_RANK"
    )


def run(main: Callable[[Namespace], int | None], arguments: Namespace, command: Sequence[str] | None = None) -> None:
    """Run a tool and exit with its status.

    Errors that a user can correct are printed as one line, with status 2 or the ``exit_status`` of the error. Other
    errors are bugs: the traceback is written to a file, and the status is 1. Ctrl-C exits with 130. ``--debug`` or
    ``PROTEUS_TRACEBACK=1`` prints all tracebacks.

    Args:
        main: Function of the arguments; returns the status, None for 0.
        arguments: Parsed arguments; ``work_dir`` or ``out`` is the folder of the traceback file. ``gpus`` or
            ``processes`` above 1 runs the verb on several processes instead.
        command: Verb and arguments as they were written; by default those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may not be UTF-8
    try:
        if wants_processes(arguments):
            verb = main.__module__.rpartition(".")[2]
            status = launch(arguments, command or [verb, *sys.argv[1:]])
        else:
            leave_gpus(arguments)
            status = main(arguments) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        _print_traceback_if_wanted(arguments)
        _exit(130, "interrupted")
    except Exception as error:
        _print_traceback_if_wanted(arguments)
        if isinstance(error, BrokenPipeError) and any(map(_lost_its_reader, (sys.stdout, sys.stderr))):
            # Python flushes again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        line = mistake(error)
        if line is not None:
            if not isinstance(error, ConfigError):  # has a line for each problem
                line = " ".join(part.strip() for part in line.splitlines())
            _exit(getattr(error, "exit_status", 2), f"error: {line}")
        where = _keep_traceback(error, arguments)
        words = " ".join(": ".join(filter(None, name_and_words(error))).split())
        words = words if len(words) <= 500 else f"{words[:500]}..."
        culprit = foreign_culprit(error)
        blame = "this is a bug in Proteus, please report it" if culprit is None else f"raised in {culprit}"
        _exit(1, f"error: {blame}: {words}; traceback in {where}")
    if dist.is_available() and dist.is_initialized():
        from proteus.engine.runner import leave_processes  # not needed, and slow to import, in tools of one process

        leave_processes(status)
    sys.exit(status)


def _exit(status: int, line: str) -> None:
    """Print a line, once for all ranks with the same line, and exit."""
    if first_to_print(line):
        print(line, file=sys.stderr)
    logging.shutdown()
    sys.exit(status)


def first_to_print(line: str) -> bool:
    """Whether this process prints a line: a single process, or the first rank that asks the shared store."""
    try:
        if int(os.environ.get("WORLD_SIZE") or 1) < 2:
            return True
        if dist.is_initialized():
            store = default_store()
        elif os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # the store of torchrun outlives the ranks
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))
        else:
            return True
        return int(store.add(f"proteus/{hashlib.sha256(line.encode('utf-8', 'replace')).hexdigest()}", 1)) == 1
    except (RuntimeError, ValueError, KeyError):  # the rank that holds the store has ended, or wrong variables
        return True


def _print_traceback_if_wanted(arguments: Namespace) -> None:
    if getattr(arguments, "debug", False) or os.environ.get("PROTEUS_TRACEBACK") == "1":
        traceback.print_exc()


def _keep_traceback(error: Exception, arguments: Namespace) -> Path:
    """Write the traceback and the command to a file; return its path."""
    lines = [" ".join(sys.argv), *traceback.format_exception(error)]
    name = f"traceback_{datetime.now():%Y%m%d_%H%M%S}_{os.getpid()}.log"
    for folder in [*_folders(arguments), Path(tempfile.gettempdir())]:
        try:
            (folder / name).write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return folder / name
    return Path("no file, since none could be written; use --debug to see it")


def _folders(arguments: Namespace) -> list[Path]:
    """Return existing folders of the run: of its results and of its log file."""
    given = [getattr(arguments, name, None) for name in ("work_dir", "out")]
    return [folder for folder in [*(Path(name) for name in given if name), *log_folders()[-1:]] if folder.is_dir()]


def _lost_its_reader(stream: TextIO) -> bool:
    """Whether the process that read a stream through a pipe has ended."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False
