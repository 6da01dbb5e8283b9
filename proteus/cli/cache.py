"""Run the teacher of a config once over its fixed views, and store its tokens for training. Repeat it to resume.

Example:
  proteus cache fixed_views/vit-s_dinov2-b_4-views --dry-run
  proteus cache fixed_views/vit-s_dinov2-b_4-views --gpus 8
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from mmengine.dist import is_main_process

from proteus import apis
from proteus.cli.run import (
    add_config_arguments,
    add_processes,
    device,
    integer,
    out_folder,
    positive_int,
    positive_number,
    verb_parser,
)


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = add_config_arguments(verb_parser("cache", __doc__))
    parser.add_argument(
        "--out", type=out_folder, metavar="DIR", help="folder of the cache (default: train_dataloader.dataset.cache)"
    )
    parser.add_argument("--teacher", metavar="NAME", help="name of one of several teachers in model.teachers")
    parser.add_argument(
        "--patches", choices=["float16", "int8-pca"], help="storage type of patch tokens (default: float16)"
    )
    parser.add_argument(
        "--components", type=positive_int, metavar="R", help="components of a patch token for int8-pca (default: 128)"
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument(
        "--batch-size", type=positive_int, metavar="N", help="images per forward pass (default: as in training)"
    )
    parser.add_argument(
        "--workers", type=integer(0, 512), metavar="N", help="processes that read images (default: as in training)"
    )
    parser.add_argument(
        "--shard-mb", type=positive_number, default=256, metavar="MB", help="approximate size of a file (default: 256)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and write nothing")
    add_processes(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.apis.cache_teacher import build, format_plan, prepare  # slow, and not needed for --help

    cfg = apis.load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher or cfg.get("launcher", "none")
    job = prepare(
        cfg,
        args.out,
        args.patches,
        args.components,
        args.device,
        args.batch_size,
        args.workers,
        shard_bytes=args.shard_mb * 1e6,
        teacher=args.teacher,
    )
    if is_main_process():
        print(format_plan(job), flush=True)
    if args.dry_run:
        return 0
    index = build(job)
    if is_main_process():
        print(f"teacher cache: {job.folder}; patch error {index.patch_error:.3g} of the tokens' variance")
        if index.replaced:
            print(f"{index.replaced:,} views show a replacement of an unreadable image")
    return 0
