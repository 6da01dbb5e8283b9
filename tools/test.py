#!/usr/bin/env python
"""Compute the test metrics of a config for a checkpoint.

Example:
  tools/test.py configs/ade20k/vit-s_upernet.py work_dirs/vit-s_upernet/iter_160000.pth --show-dir pictures
"""

from argparse import Namespace

from proteus import apis
from proteus.apis.cli import ToolParser, add_config_arguments, out_folder, run


def parse_args() -> Namespace:
    parser = add_config_arguments(ToolParser(description=__doc__))
    parser.add_argument("checkpoint", help="training checkpoint, such as work_dirs/<config>/iter_10000.pth")
    parser.add_argument(
        "--show-dir",
        type=out_folder,
        metavar="DIR",
        help="write pictures of predictions next to the ground truth (segmentation and depth)",
    )
    parser.add_argument("--tta", action="store_true", help="average over the views of tta_pipeline in the config")
    return parser.parse_args()


def main(args: Namespace) -> int:
    cfg = apis.load_config(args.config, args.cfg_options)
    apis.set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher or cfg.get("launcher", "none")
    apis.test(cfg, args.checkpoint, show_dir=args.show_dir, tta=args.tta)
    return 0


if __name__ == "__main__":
    run(main, parse_args())
