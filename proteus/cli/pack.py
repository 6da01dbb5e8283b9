"""Pack a folder of images into WebDataset shards for data sets of type WebShards. Repeat it to resume.

Example:
  proteus pack data/imagenet/train data/imagenet_shards --short-side 256 --workers 8
  proteus pack data/imagenet/train s3://my-bucket/imagenet --short-side 256 --shuffle
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.arguments import existing_folder, integer, out_folder_or_url, positive_int, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("pack", __doc__)
    parser.add_argument("source", type=existing_folder, help="folder of images, searched recursively")
    parser.add_argument("target", type=out_folder_or_url, help="folder or URL for the shards and their index")
    parser.add_argument(
        "--short-side", type=positive_int, metavar="N", help="reduce images with a shorter side of more than N pixels"
    )
    parser.add_argument(
        "--quality", type=integer(1, 95), default=90, help="JPEG quality of reduced images (default: 90)"
    )
    parser.add_argument(
        "--per-shard", type=positive_int, default=1000, metavar="N", help="images per shard (default: 1000)"
    )
    parser.add_argument("--workers", type=integer(1, 512), default=1, metavar="N", help="worker processes (default: 1)")
    parser.add_argument("--shuffle", action="store_true", help="mix the classes in each shard, for ShardSampler")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.datasets.shards.packing import pack  # slow, and not needed for --help

    index = pack(
        args.source, args.target, args.short_side, args.quality, args.per_shard, args.workers, shuffle=args.shuffle
    )
    images = sum(len(shard.images) for shard in index.shards)
    size = sum(shard.bytes for shard in index.shards)
    print(f"{images:,} images in {len(index.shards):,} shards, {size / 1e9:.2f} GB, in {args.target}")
    if index.left_out:
        print(f"{len(index.left_out):,} corrupt images were left out; they are named above and in the index")
    return 0
