#!/usr/bin/env python
"""Unpack ADEChallengeData2016.zip into the folders that mmseg's ADE20KDataset reads; call it again to go on."""

import sys
from argparse import Namespace

from proteus.apis.cli import ToolParser, existing_file, out_folder, run
from proteus.datasets.converters.ade20k import convert
from proteus.datasets.converters.summary import told


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("archive", type=existing_file, help="ADEChallengeData2016.zip")
    parser.add_argument("target", type=out_folder, help="folder for images/ and annotations/: a config's data_root")
    parser.add_argument("--check", action="store_true", help="compare the folder with the archive, and write nothing")
    return parser.parse_args()


def main(args: Namespace) -> int:
    result = convert(args.archive, args.target, args.check)
    print(told("ADE20K", args.target, result.done, result.problems, args.check))
    if result.deviation:
        print(f"the archive is not the official one: {result.deviation}", file=sys.stderr)
    return int(bool(result.problems or result.deviation))


if __name__ == "__main__":
    run(main, parse_args())
