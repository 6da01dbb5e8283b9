#!/usr/bin/env python
"""Write the backbone inside a weight file under another project's names."""

from argparse import Namespace

from proteus.apis.cli import ToolParser, run
from proteus.checkpoints import FORMS, convert


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("source", metavar="IN", help="weight file; file.pth#ema or #teacher names a part of it")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth")
    parser.add_argument("--to", required=True, choices=FORMS, help="whose names")
    return parser.parse_args()


def main(args: Namespace) -> int:
    shape = convert(args.source, args.target, args.to)
    print(f"{args.target}: {shape.title} under the names of {args.to}")
    if shape.mask_token and args.to == "timm":
        print("the mask token was kept; timm's model has none: drop 'mask_token' before load_state_dict")
    return 0


if __name__ == "__main__":
    run(main, parse_args())
