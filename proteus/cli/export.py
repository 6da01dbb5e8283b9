"""Export a backbone for timm, transformers, mmpretrain, mmseg, ONNX Runtime and torch.export, with a model card.

Example:
  proteus export work_dirs/vit-s_dinov2-b/student.safetensors --out vit-s
  proteus export vit-s --out vit-s --formats onnx --dynamic-size
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.arguments import device, out_folder, positive_int
from proteus.cli.run import verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("export", __doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="weight file (file.pth#ema selects a part), model folder, or name of a model"
    )
    parser.add_argument("--out", type=out_folder, required=True, help="model folder to write, or to add formats to")
    parser.add_argument(
        "--formats",
        nargs="+",
        action="extend",
        metavar="FORMAT",
        help="timm, hf, openmmlab, onnx, program (default: all supported)",
    )
    parser.add_argument("--arch", help="name in timm of the architecture of a weight file, if it cannot be detected")
    parser.add_argument("--img-size", type=positive_int, help="side of the images (default: that of the training)")
    parser.add_argument(
        "--dynamic-size", action="store_true", help="let model.onnx and model.pt2 take images of any size"
    )
    parser.add_argument(
        "--opset", type=positive_int, help="version of the operators of ONNX, 17 to 20 (default: torch's)"
    )
    parser.add_argument("--benchmark", action="store_true", help="measure latency and throughput by backend")
    parser.add_argument("--device", type=device, help="device of the benchmark (default: a GPU if there is one)")
    parser.add_argument("--download", action="store_true", help="download weights that are not on this machine")
    parser.add_argument("--overwrite", action="store_true", help="replace exported files of other weights in --out")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.apis.export import export

    formats = [name for text in args.formats for name in text.split(",") if name] if args.formats else None
    export(
        args.source,
        args.out,
        formats,
        arch=args.arch,
        img_size=args.img_size,
        dynamic_size=args.dynamic_size,
        opset=args.opset,
        benchmark=args.benchmark,
        device=args.device,
        download=args.download,
        overwrite=args.overwrite,
    )
    return 0
