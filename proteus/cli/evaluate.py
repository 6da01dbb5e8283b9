"""Evaluate a backbone, and write a report.

Protocols: k-NN, linear probe, fine-grained classification, robustness, segmentation, zero-shot classification and
image-text retrieval.

Example:
  proteus evaluate --backbone work_dirs/vit-s_dinov2-b/student.safetensors --protocols knn,linear
  proteus evaluate --backbone work_dirs/vit-s_dinov2-b/student.safetensors --sets flowers
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.run import (
    add_key_values,
    add_launcher,
    add_processes,
    device,
    existing_folder,
    integer,
    out_folder,
    positive_int,
    verb_parser,
)


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("evaluate", __doc__)
    parser.add_argument(
        "--backbone",
        required=True,
        help="a known model (dinov2_vitb14), timm/NAME, mmpretrain/NAME, a checkpoint (student.safetensors, "
        "iter_375300.pth; #ema selects the moving average, if the run had one), a model folder, or random:NAME",
    )
    parser.add_argument(
        "--arch", help="timm architecture, required if it cannot be inferred from the checkpoint (CNNs)"
    )
    parser.add_argument("--download", action="store_true", help="download weights that are not on disk")
    parser.add_argument(
        "--data-root", type=existing_folder, help="folder of the data sets (default: data; not needed with --sets)"
    )
    parser.add_argument(
        "--protocols",
        help="comma-separated list of knn, linear, linear-cached, fine-grained, robustness, dense-knn, zero-shot, "
        "retrieval, or config files (default: knn,linear,fine-grained,robustness; with --sets knn,fine-grained; for "
        "masks dense-knn; for captions retrieval)",
    )
    parser.add_argument(
        "--sets",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="evaluate on your own images: labelled, in DIR/train/CLASS and DIR/test/CLASS; with masks, in "
        "DIR/images/{train,val} and DIR/annotations/{train,val}; or with DIR/captions.jsonl",
    )
    parser.add_argument("--out", type=out_folder, help="folder of the report (default: work_dirs/evaluate/<backbone>)")
    parser.add_argument("--cache", type=out_folder, help="folder of extracted features (default: <out>/features)")
    parser.add_argument(
        "--img-size", type=positive_int, default=224, help="side of the images in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=positive_int, default=64, help="images per forward pass (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=integer(0, 512),
        help="worker processes that read images (default: half the CPUs, at most 8)",
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    add_key_values(parser)
    add_launcher(parser)
    add_processes(parser)
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    # Slow, and not needed for --help.
    from mmengine.config import Config
    from mmengine.dist import get_dist_info

    from proteus.apis.evaluate_by_name import default_out, evaluate
    from proteus.engine.runner import prepare_processes

    prepare_processes(Config({"launcher": args.launcher or "none"}))
    rank = get_dist_info()[0]
    out = args.out or default_out(args.backbone)
    results = evaluate(
        args.backbone,
        sets=args.sets,
        protocols=None
        if args.protocols is None
        else [name.strip() for name in args.protocols.split(",") if name.strip()],
        data_root=args.data_root,
        out=out,
        arch=args.arch,
        img_size=args.img_size,
        cache=args.cache,
        device=args.device,
        batch_size=args.batch_size,
        workers=args.workers,
        download=args.download,
        overrides=args.cfg_options,
    )
    if rank > 0:
        return 0
    print(f"\n{out / 'report.md'}, report.json, report.png")
    if not any(result.rows or result.failed for result in results.values()):
        print("error: nothing was evaluated, since no data set of these protocols is on disk", file=sys.stderr)
        return 1
    return 1 if any(result.failed for result in results.values()) else 0
