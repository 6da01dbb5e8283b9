#!/usr/bin/env python
"""Generate ImageNet-C from the validation images of ImageNet. Re-run to resume.

Example:
  tools/generate_imagenet_c.py data/imagenet/val data/imagenet-c --workers 8
"""

from argparse import Namespace

from proteus.cli.run import ToolParser, existing_folder, integer, out_folder, run
from proteus.datasets.robustness import generate
from proteus.datasets.transforms.corruption import CORRUPTIONS


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "source", type=existing_folder, help="validation images, in one folder per class named by WordNet ID"
    )
    parser.add_argument("target", type=out_folder, help="folder for CORRUPTION/SEVERITY/WNID/IMAGE.JPEG")
    parser.add_argument(
        "--corruptions",
        nargs="+",
        action="extend",
        default=CORRUPTIONS,
        choices=CORRUPTIONS,
        metavar="NAME",
        help=f"corruptions to apply (default: all: {' '.join(CORRUPTIONS)})",
    )
    parser.add_argument("--workers", type=integer(1, 512), default=1, metavar="N", help="worker processes (default: 1)")
    parser.add_argument("--any-classes", action="store_true", help="accept a folder with fewer than 1,000 classes")
    return parser.parse_args()


def main(args: Namespace) -> int:
    marker = generate(args.source, args.target, args.corruptions, args.workers, not args.any_classes)
    print(f"{args.target} has {', '.join(marker.finished)} of {marker.images:,} images, with {marker.library}")
    return 0


if __name__ == "__main__":
    run(main, parse_args())
