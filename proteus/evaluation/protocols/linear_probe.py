"""Linear probe of a frozen backbone, as in DINOv2."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from proteus.datasets.fine_grained import ImageNet1K
from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.protocols.protocol import (
    EvalContext,
    ProtocolResult,
    SetProtocol,
    check_validation_part,
    set_loader,
)
from proteus.registry import PROTOCOLS
from proteus.structures import DataError
from proteus.utils import read_json


@PROTOCOLS.register_module()
class LinearProbing(SetProtocol):
    """Train linear classifiers with many settings at once in an MMEngine run (docs/reproduction.md#linear-probe).

    The protocol's config is the run's config: model, schedule and hooks. The protocol fills in the backbone, the data
    and the numbers that depend on the size of the data. ``proteus test`` and the robustness protocol accept the run's
    checkpoint. An interrupted run resumes.

    On ImageNet-1K the result is the best head on the test images, as in DINOv2's protocol. On other sets the head is
    chosen on validation images, which are not trained on: those of the set, or a random fifth of its training images.

    Args:
        epochs: Passes over the training images; 10 on ImageNet-1K are the paper's 25,020 iterations.
        min_iterations: Smallest number of iterations; small sets take more passes.
        batch_size: Images per iteration; the learning rates are scaled with it.
        validations: Number of validations during the run.
        cached: Train on features of one view of each image, extracted once, instead of a new random view each time.
            This is much faster, but not the paper's protocol: the accuracies are not comparable.
        **set_options: ``sets`` of :class:`SetProtocol`, and ``pipeline``, ``mean`` and ``std``, used if ``cached``.

    Raises:
        ValueError: A number is not a positive integer.
    """

    name = "linear"
    title = "Linear probe"
    unit = "top-1, %"

    def __init__(
        self,
        epochs: int = 10,
        min_iterations: int = 1000,
        batch_size: int = 512,
        validations: int = 20,
        cached: bool = False,
        **set_options: Any,
    ) -> None:
        super().__init__(**set_options)
        counts = {"epochs": epochs, "min_iterations": min_iterations, "batch_size": batch_size}
        for key, value in {**counts, "validations": validations}.items():
            if not is_integer(value) or value < 1:
                raise ValueError(f"protocol.{key}={value!r}: write a positive integer")
        self.epochs, self.min_iterations, self.batch_size = epochs, min_iterations, batch_size
        self.validations, self.cached = validations, cached
        self.tokens = "probe" if cached else None
        if cached:
            self.name, self.title = "linear-cached", "Linear probe, cached features"

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return the full config of the run."""
        return {"config": context.cfg.to_dict()}

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Run the probe on one data set.

        Raises:
            ValueError: Its images have several labels each.
            DataError: It needs validation images and has too few images for them.
        """
        dataset = context.split(config, "trainval").dataset
        if dataset.metric == "map11":
            raise ValueError(f"{dataset.title}: the probe needs one label per image; remove the set from protocol.sets")
        parts = _parts(dataset)
        if "val" in parts:
            labels = context.split(config, "trainval").labels
            check_validation_part(name, dataset.in_val(), labels, dataset.num_classes)
        cfg = self.run_config(name, config, context)
        test = copy.deepcopy(cfg)  # a run changes its config
        context.train(cfg)
        work_dir = Path(cfg.work_dir)
        best, head = _best(work_dir / "probe_grid.json")
        iterations, run = cfg.train_cfg.max_iters, str(work_dir.relative_to(context.out))
        sizes = [len(context.split(config, part).names) for part in dict.fromkeys(parts)]
        if "val" not in parts:
            train, tested = sizes
            return {"best": best, "head": head, "iterations": iterations, "train": train, "test": tested, "run": run}
        return {
            "test top-1": self._test(test, context),
            "val top-1": best,
            "head": head,
            "head chosen on": "val" if dataset.has_val else "a random fifth of train",
            "iterations": iterations,
            "train / val / test images": " / ".join(f"{size:,}" for size in sizes),
            "run": run,
        }

    def _test(self, cfg: Config, context: EvalContext) -> float:
        """Return the test accuracy of the chosen head of a finished run."""
        checkpoint = find_latest_checkpoint(cfg.work_dir)
        assert checkpoint is not None
        # Not in the run's folder, where the test's config would replace the run's.
        cfg.work_dir = str(Path(cfg.work_dir) / "test")
        cfg.experiment_name += "-test"
        return context.test(cfg, checkpoint)["accuracy/top1"]

    def extract_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> None:
        """Extract the features of the parts that the run reads."""
        for part in dict.fromkeys(_parts(context.split(config, "trainval").dataset)):
            self.table(name, config, part, context, "probe")

    def run_config(self, name: str, config: dict[str, Any], context: EvalContext) -> Config:
        """Make the config of the run: the protocol's config with this backbone and data set."""
        cfg = Config(context.cfg.to_dict(), filename=context.cfg.filename)
        cfg.pop("protocol")
        parts = _parts(context.split(config, "trainval").dataset)
        train, val, test = (context.split(config, part) for part in parts)
        model = context.spec.build()
        statistics = {"mean": self.mean or context.spec.mean, "std": self.std or context.spec.std}
        # A backbone with fewer blocks contributes all of them.
        layers = sorted({min(count, getattr(model, "depth", 1)) for count in cfg.model.layers})
        cfg.merge_from_dict(
            {
                "model.backbone": {"_delete_": True, **context.spec.config_with_weights(context.out)},
                "model.num_classes": train.dataset.num_classes,
                "model.layers": layers,
                "model.data_preprocessor": {**cfg.model.data_preprocessor, **statistics},
            }
        )
        loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
        for loader, split, part in zip(loaders, (train, val, test), parts, strict=True):
            if self.cached:
                table = self.table(name, config, part, context, "probe")
                cfg[loader].dataset = {
                    "type": "FeatureTable",
                    "features": str(table.folder / "features.npy"),
                    "labels": str(table.folder / "labels.npy"),
                    "num_classes": train.dataset.num_classes,
                }
                cfg[loader].collate_fn = {"type": "table_collate"}
            else:
                cfg[loader].dataset = {**split.config, "pipeline": cfg[loader].dataset.pipeline}
            set_loader(cfg[loader], context.store)
        if "val" in parts:
            cfg.test_evaluator = [{"type": "Top1Accuracy"}]  # of the chosen head only
        batch = min(self.batch_size, len(train.names))
        cfg.train_dataloader.batch_size = batch
        iterations = max(self.epochs * (len(train.names) // batch), self.min_iterations)
        every = max(1, iterations // self.validations)
        cfg.train_cfg.update(max_iters=iterations, val_interval=every)
        cfg.default_hooks.checkpoint.update(interval=every, max_keep_ckpts=1)
        run = [*context.backbone_key(), context.cfg.to_dict(), *(split.version for split in (train, val, test))]
        text = json.dumps(run, sort_keys=True, default=str)
        cfg.work_dir = str(context.out / self.name / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
        cfg.experiment_name = f"{self.name}-{Path(cfg.work_dir).name}"
        cfg.resume = True
        return cfg

    def summarise(self, result: ProtocolResult) -> None:
        """Add the pictures of the grids."""
        result.pictures = [f"{row['run']}/probe_grid.png" for row in result.rows.values()]
        if any("best" in row for row in result.rows.values()):
            result.notes.append("best: the best head on the test images, as in DINOv2's protocol for ImageNet-1K")
        if any("test top-1" in row for row in result.rows.values()):
            result.notes.append("test top-1: of the best head on validation images, which are not trained on")
        if self.cached:
            result.notes.append("one view of each image, extracted once: not the paper's protocol")


def _parts(dataset: Any) -> tuple[str, str, str]:
    """Return the parts of a data set to train on, to choose the head on and to test on."""
    return ("trainval", "test", "test") if isinstance(dataset, ImageNet1K) else ("train", "val", "test")


def _best(path: Path) -> tuple[float, str]:
    """Read accuracy and name of the best head of a run.

    Raises:
        DataError: The table is missing or damaged.
    """
    remedy = f"remove the folder {path.parent} and run the same command again"
    try:
        grid = read_json(path, remedy)
        return float(grid["best"]), str(grid["best_head"])
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is missing or damaged ({type(error).__name__}: {error}); {remedy}") from error
