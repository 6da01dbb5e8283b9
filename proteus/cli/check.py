"""Check a config and build all its parts, without training.

Example:
  proteus check vit-s_dinov2-b --cfg-options train_dataloader.batch_size=64
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.run import add_config_arguments, verb_parser
from proteus.cli.train import add_run_arguments, check


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    return add_run_arguments(add_config_arguments(verb_parser("check", __doc__))).parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    check(args)
    return 0
