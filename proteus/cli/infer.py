"""Predict for images or a video with a trained model: overlays, depth maps, or top-5 classes.

Example:
  proteus infer vit-s_dpt work_dirs/vit-s_dpt/iter_25000.pth photos --out predictions
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from proteus import apis
from proteus.cli.run import add_key_values, device, existing_file, out_folder, positive_number, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("infer", __doc__)
    parser.add_argument("config", help="config file or name of a segmentor, a depth estimator or a classifier")
    parser.add_argument("checkpoint", help="its training checkpoint, such as work_dirs/<config>/iter_60000.pth")
    parser.add_argument("input", type=Path, help="image, folder of images (searched recursively), or video")
    parser.add_argument("--out", required=True, type=out_folder, help="folder for pictures, videos and predictions.csv")
    parser.add_argument(
        "--raw", action="store_true", help="also write <out>/raw: class indices (.png), metres or probabilities (.npy)"
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument(
        "--classes",
        type=existing_file,
        metavar="FILE",
        help="class names, one per line, instead of those of the data set in the config",
    )
    parser.add_argument(
        "--max-depth",
        type=positive_number,
        metavar="M",
        help="metres at the upper end of the colour scale (default: the largest depth of each picture)",
    )
    add_key_values(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.apis.infer import infer  # slow, and not needed for --help

    cfg = apis.load_config(args.config, args.cfg_options)
    failed = infer(
        cfg, args.checkpoint, args.input, args.out, args.raw, args.device, args.classes, max_depth=args.max_depth
    )
    print(f"predictions are in {args.out}")
    if failed:
        print("\n".join([f"{len(failed)} could not be read:", *failed]), file=sys.stderr)
    return 1 if failed else 0
