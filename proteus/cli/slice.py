"""Cut a small ViT out of a larger one without training: a slice of its weights, fitted on a few hundred images.

Example:
  proteus slice --teacher dinov2_vitb14 --student vit_small --data photos --out work_dirs/sliced

It takes minutes for a ViT-S on a CPU, and needs no labels. OUT holds the student for timm, transformers,
OpenMMLab and ONNX Runtime with its model card. 'proteus distill' starts from the same weights and trains them.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from proteus.cli.arguments import device, non_negative_int, out_folder, positive_int, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("slice", __doc__)
    parser.add_argument(
        "--teacher",
        required=True,
        help="ViT: name (proteus models), timm/NAME, hf-hub:ID, weight file, model folder, or 'packaged'",
    )
    parser.add_argument(
        "--student",
        default="vit_small",
        help="vit_tiny, vit_small, vit_base, vit_large or timm/NAME, no wider than the teacher (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        metavar="DIR",
        help="folders of images, with any subfolders, or 'packaged'; a few per cent are held out for the comparison",
    )
    parser.add_argument("--out", required=True, type=out_folder, help="folder to write")
    parser.add_argument(
        "--views",
        type=non_negative_int,
        default=1024,
        help="views of the images to fit on; 0 fits on noise, without --data, which is worse (default: %(default)s)",
    )
    parser.add_argument(
        "--img-size", type=positive_int, help="side of the images in pixels (default: at most 224, and 112 on a CPU)"
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument("--download", action="store_true", help="fetch the teacher's weights from their hub if needed")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    from proteus.apis.slice import slice  # slow to import, and not needed for --help

    data = args.data[0] if args.data and len(args.data) == 1 else args.data
    slice(
        args.teacher,
        args.student,
        data=data,
        out=args.out,
        views=args.views,
        img_size=args.img_size or "auto",
        device=args.device,
        download=args.download,
    )
    return 0
