#!/usr/bin/env python
"""Convert the backbone of a checkpoint to the naming scheme of another project.

Example:
  tools/convert_checkpoint.py student.safetensors student_timm.safetensors --to timm
"""

from argparse import Namespace

from proteus.apis.cli import ToolParser, run
from proteus.checkpoints import FORMS, convert


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("source", metavar="IN", help="checkpoint; file.pth#ema, #teacher or #NAME selects a part")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth")
    parser.add_argument("--to", required=True, choices=FORMS, help="target naming scheme")
    return parser.parse_args()


def main(args: Namespace) -> int:
    done = convert(args.source, args.target, args.to)
    print(f"{args.target}: {done.shape.title} under the names of {args.to}")
    print(f"model: {done.usage}")
    for note in done.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    run(main, parse_args())
