"""Train a config, or check it with ``--check``.

Example:
  proteus train vit-s_dinov2-b --cfg-options train_dataloader.batch_size=64
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from mmengine.config import Config

from proteus import apis
from proteus.cli.run import add_config_arguments, add_processes, first_to_print, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = add_run_arguments(add_config_arguments(verb_parser("train", __doc__)))
    parser.add_argument("--check", action="store_true", help="check the config and build all parts, without training")
    add_processes(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    if args.check:
        check(args)
    else:
        apis.train(load(args), args.resume, args.resume_override)
    return 0


def add_run_arguments(parser: ArgumentParser) -> ArgumentParser:
    """Add the arguments of a training run, except for those of its config."""
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
    parser.add_argument(
        "--logger",
        metavar="NAME,...",
        help="send curves to tensorboard, wandb, mlflow, or none of them (default: as in the config: tensorboard)",
    )
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16 on any device")
    return parser


def load(args: Namespace) -> Config:
    """Return the config of a training run with all arguments merged in."""
    cfg = apis.load_config(args.config, args.cfg_options)
    apis.set_work_dir(cfg, args.work_dir)
    cfg.launcher = args.launcher or cfg.get("launcher", "none")
    if args.logger:
        apis.use_loggers(cfg, [name.strip() for name in args.logger.split(",") if name.strip()])
    if args.amp:
        apis.use_bfloat16(cfg)
    if args.resume_override and not args.resume:
        raise apis.ConfigError(["--resume-override needs --resume"], args.config)
    return cfg


def check(args: Namespace) -> None:
    """Build all parts of a training run, and print a summary."""
    cfg = load(args)
    if args.resume:
        apis.set_resume(cfg, args.resume)
    text = apis.check(cfg)
    if first_to_print(text):
        print(text)
