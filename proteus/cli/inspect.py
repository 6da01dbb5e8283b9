"""Print the contents of a checkpoint, without building a model.

Example:
  proteus inspect work_dirs/vit-s_dinov2-b/iter_375300.pth
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.run import verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("inspect", __doc__)
    parser.add_argument(
        "file",
        help="checkpoint or model folder; file.pth#student, #teacher or #NAME selects a part, #ema the average, if any",
    )
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.checkpoints.inspect import inspect_file

    print(inspect_file(args.file))
    return 0
