#!/usr/bin/env python
"""Run a config's teacher once over its fixed views and keep the tokens on disk; call it again to go on.

On several GPUs: torchrun --nproc_per_node=8 tools/cache_teacher.py CONFIG --launcher pytorch
"""

from argparse import Namespace, RawDescriptionHelpFormatter

from mmengine.dist import is_main_process

from proteus import apis
from proteus.apis.cli import (
    ToolParser,
    add_config_arguments,
    device,
    integer,
    out_folder,
    positive_int,
    positive_number,
    run,
)


def parse_args() -> Namespace:
    parser = add_config_arguments(ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter))
    parser.add_argument(
        "--out", type=out_folder, metavar="DIR", help="folder of the cache (default: train_dataloader.dataset.cache)"
    )
    parser.add_argument(
        "--patches", choices=["float16", "int8-pca"], help="how patch tokens are kept (default: float16)"
    )
    parser.add_argument(
        "--components", type=positive_int, metavar="R", help="numbers a patch token keeps with int8-pca (default: 128)"
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument("--batch-size", type=positive_int, metavar="N", help="images at once (default: the training's)")
    parser.add_argument(
        "--workers", type=integer(0, 512), metavar="N", help="processes that read images (default: the training's)"
    )
    parser.add_argument(
        "--shard-mb", type=positive_number, default=256, metavar="MB", help="size of a file, about (default: 256)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    return parser.parse_args()


def main(args: Namespace) -> int:
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
    )
    if is_main_process():
        print(format_plan(job), flush=True)
    if args.dry_run:
        return 0
    index = build(job)
    if is_main_process():
        print(f"the teacher cache is in {job.folder}; patch error {index.patch_error:.3g} of the tokens' variance")
        if index.replaced:
            print(f"{index.replaced:,} views show another image, since their own could not be read")
    return 0


if __name__ == "__main__":
    run(main, parse_args())
