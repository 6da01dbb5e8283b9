"""Compute the test metrics of a config for a checkpoint.

Example:
  proteus test vit-s_upernet work_dirs/vit-s_upernet/iter_60000.pth --show-dir pictures
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus import apis
from proteus.cli.run import add_config_arguments, add_processes, out_folder, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = add_config_arguments(verb_parser("test", __doc__))
    parser.add_argument("checkpoint", help="training checkpoint, such as work_dirs/<config>/iter_10000.pth")
    parser.add_argument(
        "--show-dir",
        type=out_folder,
        metavar="DIR",
        help="write pictures of predictions next to the ground truth (segmentation and depth)",
    )
    parser.add_argument("--tta", action="store_true", help="average over the views of tta_pipeline in the config")
    add_processes(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    cfg = apis.load_config(args.config, args.cfg_options)
    apis.set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher or cfg.get("launcher", "none")
    apis.test(cfg, args.checkpoint, show_dir=args.show_dir, tta=args.tta)
    return 0
