#!/usr/bin/env python
"""Compute a config's test metrics for a checkpoint."""

from argparse import ArgumentParser, Namespace

from proteus.apis import load_config, set_work_dir, test
from proteus.apis.cli import add_config_arguments, run


def parse_args() -> Namespace:
    parser = add_config_arguments(ArgumentParser(description=__doc__))
    parser.add_argument("checkpoint", help="training checkpoint, such as work_dirs/<config>/iter_10000.pth")
    return parser.parse_args()


def main(args: Namespace) -> int:
    cfg = load_config(args.config, args.cfg_options)
    set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher
    test(cfg, args.checkpoint)
    return 0


if __name__ == "__main__":
    run(main, parse_args())
