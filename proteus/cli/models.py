"""List the models that can be used by name, and whether their weights are on this machine.

Example:
  proteus models dinov2
  proteus models "timm/convnext_tiny*" --role teacher
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.run import verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("models", __doc__)
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        metavar="PATTERN",
        help="names to list, with * and ?; a word without them matches names that contain it (default: all)",
    )
    parser.add_argument("--role", choices=["teacher", "student"], help="list only teachers or only students")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.models.zoo.table import models_table

    print(models_table(args.pattern, args.role))
    return 0
