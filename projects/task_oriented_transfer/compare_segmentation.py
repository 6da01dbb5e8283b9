r"""Compare task-oriented transfer, task-agnostic distillation and training from scratch with few masks, over seeds.

    python -m projects.task_oriented_transfer.compare_segmentation --data OUT --seeds 3

OUT is the output of `benchmarks/synthetic_dense.py masks PACKAGES OUT`: composites, so results are for synthetic
scenes. The seed selects the labelled scenes, the initial weights and the order of images. Re-run to resume.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.task_oriented_transfer.comparison import claim, once, table_of
from proteus.apis import load_config, set_work_dir, test, train
from proteus.cli.run import ToolParser, existing_folder, out_folder, positive_int, run
from proteus.structures import DataError

CONFIGS = Path(__file__).parent / "configs/packaged_segmentation"
# Folder of the training scenes, in the layout of ADEChallengeData2016.
IMAGES = "images/training"
ROWS = {
    "teacher": "adapted teacher (frozen, head only)",
    "distilled": "task-oriented, before fine-tuning",
    "task-oriented": "task-oriented, then fine-tuned",
    "task-agnostic": "task-agnostic, then fine-tuned",
    "scratch": "from scratch, labels only",
}


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=existing_folder, help="output of synthetic_dense.py masks")
    parser.add_argument("--seeds", type=positive_int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("--labels", type=positive_int, default=40, help="labelled scenes (default: %(default)s)")
    parser.add_argument(
        "--iterations", type=positive_int, default=150, help="iterations of distillation (default: %(default)s)"
    )
    parser.add_argument(
        "--label-iterations", type=positive_int, default=150, help="iterations with labels (default: %(default)s)"
    )
    parser.add_argument("--out", type=out_folder, default=Path("work_dirs/task_oriented_segmentation"))
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Run every seed, then print and write the table."""
    if min(args.iterations, args.label_iterations) < 2 or args.seeds < 1:
        raise DataError("--iterations, --label-iterations and --seeds: write at least 2 iterations and 1 seed")
    count = sum(path.suffix == ".jpg" for path in (args.data / IMAGES).glob("*"))
    if not 1 <= args.labels <= count:
        raise DataError(
            f"--labels {args.labels}: {args.data / IMAGES} has {count} scenes (*.jpg); pass the output folder of "
            "`python benchmarks/synthetic_dense.py masks PACKAGES OUT` as --data, and at most that number of labels"
        )
    comparison = {"labels": args.labels, "iterations": args.iterations, "label_iterations": args.label_iterations}
    claim(args.out, {"data": str(args.data), **comparison})
    results = [_seed(args, seed, count) for seed in range(args.seeds)]
    table = table_of("mIoU, %", ROWS, results)
    (args.out / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{args.data}: {args.labels} labelled of {count} scenes; iterations {args.iterations}, then ", end="")
    print(f"{args.label_iterations}")
    print(table)
    return 0


def schedule(iterations: int) -> dict[str, Any]:
    """Return config options for a run of ``iterations``: a tenth is warm-up, with a checkpoint at the end."""
    warm_up = max(1, iterations // 10)
    return {
        "train_cfg.max_iters": iterations,
        "param_scheduler.0.end": warm_up,
        "param_scheduler.1.begin": warm_up,
        "param_scheduler.1.end": iterations,
        "default_hooks.checkpoint.interval": iterations,
    }


def _seed(args: Namespace, seed: int, count: int) -> dict[str, float]:
    out = args.out / f"seed{seed}"
    chosen = np.random.default_rng(seed).choice(count, args.labels, replace=False)
    labelled = {
        **schedule(args.label_iterations),
        "train_cfg.val_interval": args.label_iterations,
        **{f"{part}_dataloader.dataset.dataset.data_root": str(args.data) for part in ("train", "val", "test")},
        "train_dataloader.dataset.dataset.indices": sorted(int(index) for index in chosen),
        "randomness.seed": seed,
    }
    unlabelled = {
        **schedule(args.iterations),
        "train_dataloader.dataset.data_root": str(args.data / IMAGES),
        "randomness.seed": seed,
    }
    adapted = {"model.teacher.backbone.init_cfg.checkpoint": str(out / f"teacher/iter_{args.label_iterations}.pth")}
    teacher = _run("teacher", out / "teacher", labelled)
    _run("task_oriented", out / "task_oriented", {**unlabelled, **adapted})
    _run("task_agnostic", out / "task_agnostic", unlabelled)
    whole = {"load_from": str(out / "task_oriented/segmentor.pth")}
    backbone = {"model.backbone.checkpoint": str(out / "task_agnostic/student.safetensors")}
    figures = {
        "teacher": teacher,
        "distilled": _run("finetune", out / "distilled", {**labelled, **whole}, train_it=False),
        "task-oriented": _run("finetune", out / "finetune_task-oriented", {**labelled, **whole}),
        "task-agnostic": _run("finetune", out / "finetune_task-agnostic", {**labelled, **backbone}),
        "scratch": _run("finetune", out / "scratch", labelled),
    }
    return {name: metrics["mIoU"] for name, metrics in figures.items()}


def _run(config: str, work_dir: Path, options: dict[str, Any], train_it: bool = True) -> dict[str, float]:
    """Train a config, or test its ``load_from``, unless done with the same options; return the metrics."""

    def metrics() -> dict[str, float]:
        cfg = load_config(CONFIGS / f"{config}.py", options)
        set_work_dir(cfg, str(work_dir))
        if not train_it:
            return {name: float(value) for name, value in test(cfg, cfg.load_from).items()}
        scalars = train(cfg).message_hub.log_scalars
        names = [name for name in ("mIoU", "mAcc", "aAcc") if f"val/{name}" in scalars]
        return {name: float(scalars[f"val/{name}"].current()) for name in names}

    return once(work_dir, options, metrics)


if __name__ == "__main__":
    run(main, parse_args())
