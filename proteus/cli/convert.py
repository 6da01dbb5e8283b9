"""Convert the backbone of a checkpoint to the naming scheme of another project.

Example:
  proteus convert iter_10000.pth out.safetensors --to hf
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.checkpoints import FORMS, convert
from proteus.cli.run import verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("convert", __doc__)
    parser.add_argument(
        "source",
        metavar="IN",
        help="checkpoint; file.pth#teacher or #NAME selects a part, #ema the moving average, if any",
    )
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth")
    parser.add_argument("--to", required=True, choices=FORMS, help="target naming scheme")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    done = convert(args.source, args.target, args.to)
    print(f"{args.target}: {done.shape.title} under the names of {args.to}")
    print(f"model: {done.usage}")
    for note in done.notes:
        print(f"note: {note}")
    return 0
