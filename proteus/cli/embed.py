"""Write the features of images to a file, one row per image.

Example:
  proteus embed --backbone work_dirs/vit-s_dinov2-b/student.safetensors --data photos --out photos.npy
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.run import add_launcher, add_processes, device, integer, out_file, positive_int, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("embed", __doc__)
    parser.add_argument(
        "--backbone",
        required=True,
        help="a known model (dinov2_vitb14), timm/NAME, mmpretrain/NAME, a checkpoint (student.safetensors, "
        "iter_375300.pth; #ema selects the moving average, if the run had one), a model folder, or random:NAME",
    )
    parser.add_argument(
        "--data", required=True, help="folder of images (searched recursively), or text file with one path per line"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=out_file,
        metavar="FILE",
        help="features: NAME.npy, with the names of the images in NAME.files.txt, or NAME.parquet",
    )
    parser.add_argument(
        "--tokens",
        choices=["cls", "mean", "cls+mean", "patches"],
        default="cls",
        help="class token, mean patch token, both, or all patch tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--arch", help="timm architecture, required if it cannot be inferred from the checkpoint (CNNs)"
    )
    parser.add_argument("--download", action="store_true", help="download weights that are not on disk")
    parser.add_argument(
        "--img-size", type=positive_int, help="side of the images in pixels (default: that of the backbone)"
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=64, help="images per forward pass (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=integer(0, 512),
        help="worker processes that read images, per process (default: half the CPUs, at most 8)",
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    add_launcher(parser)
    add_processes(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from mmengine.config import Config
    from mmengine.dist import is_main_process

    from proteus.apis.embed import embed  # slow, and not needed for --help
    from proteus.engine.runner import prepare_processes

    prepare_processes(Config({"launcher": args.launcher or "none"}))
    result = embed(
        args.backbone,
        args.data,
        args.out,
        tokens=args.tokens,
        arch=args.arch,
        img_size=args.img_size,
        batch_size=args.batch_size,
        workers=args.workers,
        device=args.device,
        download=args.download,
    )
    if is_main_process():
        print(f"{result.out}: {' x '.join(f'{size:,}' for size in result.shape)}, float32")
        if result.failed:
            print("\n".join([f"{len(result.failed)} could not be read:", *result.failed]), file=sys.stderr)
    return 1 if result.failed else 0
