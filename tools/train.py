#!/usr/bin/env python
"""Train a config, or check it with --check.

Example:
  tools/train.py configs/proteus/vit-s_dinov2-b.py --cfg-options train_dataloader.batch_size=64
"""

from argparse import Namespace

from proteus import apis
from proteus.apis.cli import ToolParser, add_config_arguments, run


def parse_args() -> Namespace:
    parser = add_config_arguments(ToolParser(description=__doc__))
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="FILE",
        help="resume from the newest complete checkpoint in the work directory, or from FILE",
    )
    parser.add_argument(
        "--resume-override",
        action="store_true",
        help="when resuming, take learning rates, weight decay and schedules from the config",
    )
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16 on any device")
    parser.add_argument("--check", action="store_true", help="check the config and build all parts, without training")
    return parser.parse_args()


def main(args: Namespace) -> int:
    cfg = apis.load_config(args.config, args.cfg_options)
    apis.set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher or cfg.get("launcher", "none")
    if args.amp:
        apis.use_bfloat16(cfg)
    if args.resume_override and not args.resume:
        raise apis.ConfigError(["--resume-override needs --resume"], args.config)
    if args.check:
        if args.resume:
            apis.set_resume(cfg, args.resume)
        print(apis.check(cfg))
    else:
        apis.train(cfg, args.resume, args.resume_override)
    return 0


if __name__ == "__main__":
    run(main, parse_args())
