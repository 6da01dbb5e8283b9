#!/usr/bin/env python
"""Print the contents of a checkpoint, without building a model.

Example:
  tools/inspect_checkpoint.py work_dirs/vit-s_dinov2-b/iter_375300.pth#ema
"""

from argparse import Namespace

from proteus.apis.cli import ToolParser, run


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("file", help="checkpoint; file.pth#ema, #student, #teacher or #NAME selects a part")
    return parser.parse_args()


def main(args: Namespace) -> int:
    from proteus.checkpoints.inspect import inspect_file

    print(inspect_file(args.file))
    return 0


if __name__ == "__main__":
    run(main, parse_args())
