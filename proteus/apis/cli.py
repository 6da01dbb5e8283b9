"""What the command-line tools share: overrides, and errors that read as sentences."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.config import DictAction

from proteus.apis.config import ConfigError
from proteus.engine.runner import leave_processes
from proteus.structures import UserError

# Mistakes in what the user gave us; anything else is a fault of ours and shows its traceback.
USER_ERRORS = (UserError, FileNotFoundError)


def add_config_arguments(parser: ArgumentParser) -> ArgumentParser:
    """Add what every tool that reads a config takes."""
    parser.add_argument("config", help="config file, such as configs/proteus/vit-s_dinov2-b.py")
    parser.add_argument("--work-dir", help="folder for logs and checkpoints (default: work_dirs/<config>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override config keys: train_dataloader.batch_size=64 model.objectives.patch=None",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, help="set by some launchers; read from LOCAL_RANK")
    return parser


def run(main: Callable[[Namespace], int | None], arguments: Namespace) -> None:
    """Run a tool; a user's mistake is printed without a traceback and ends the process with status 2."""
    try:
        status = main(arguments)
    except USER_ERRORS as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    leave_processes(status or 0)
    sys.exit(status)


def _sentence(error: Exception) -> str:
    """What an error says, without the traceback that torch puts before it if it was raised in a loader's worker."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if text.startswith("Caught ") else text


@contextmanager
def as_config_error(config: str) -> Iterator[None]:
    """Report what a part's constructor refuses as a mistake in ``config``."""
    try:
        yield
    except USER_ERRORS:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError([str(error)], config) from error
