"""DINOv2's linear probe of any backbone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.evaluation.input_checks import is_integer
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol
from proteus.registry import PROTOCOLS
from proteus.structures import DataError
from proteus.utils import read_json


@PROTOCOLS.register_module()
class LinearProbing(SetProtocol):
    """Linear classifiers trained at many settings at once, as a run of MMEngine's (docs/reproduction.md#linear-probe).

    The config that holds this protocol is the run's: model, schedule, hooks. Backbone, data and the numbers that depend
    on the data's size are put in here. The run's checkpoint is a classifier that ``tools/test.py`` and the robustness
    protocol take. An interrupted run goes on where it stopped.

    Args:
        epochs: How often the training images are gone through; 10 on ImageNet-1K are the protocol's 25,020 iterations.
        min_iterations: Small sets are gone through more often, until there are so many steps.
        batch_size: Images in a step; the learning rates follow.
        validations: How often the test images are classified during the run.
        cached: Train on features of one view of each image, extracted once, instead of a new random view each time.
            It is much faster and another protocol: its figures cannot be compared with the paper's.
        **judged: ``sets``, and ``pipeline``, ``mean`` and ``std``, which ``cached`` alone uses.

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
        **judged: Any,
    ) -> None:
        super().__init__(**judged)
        counts = {"epochs": epochs, "min_iterations": min_iterations, "batch_size": batch_size}
        for key, value in {**counts, "validations": validations}.items():
            if not is_integer(value) or value < 1:
                raise ValueError(f"protocol.{key}={value!r}: write a positive integer")
        self.epochs, self.min_iterations, self.batch_size = epochs, min_iterations, batch_size
        self.validations, self.cached = validations, cached
        if cached:
            self.name, self.title = "linear-cached", "Linear probe, cached features"

    def settings(self, bench: EvalContext) -> dict[str, Any]:
        """The whole config of the run."""
        return {"config": bench.cfg.to_dict()}

    def judge(self, name: str, config: dict[str, Any], bench: EvalContext) -> dict[str, Any]:
        """Run the probe on one data set.

        Raises:
            ValueError: Its images have several labels each.
        """
        dataset = bench.split(config, "trainval").dataset
        if dataset.metric == "map11":
            raise ValueError(f"{dataset.title}: the probe needs one label an image; take the set out of protocol.sets")
        cfg = self.run_config(name, config, bench)
        bench.train(cfg)
        work_dir = Path(cfg.work_dir)
        best, head = _best(work_dir / "probe_grid.json")
        return {
            "best": best,
            "head": head,
            "iterations": cfg.train_cfg.max_iters,
            "train": len(bench.split(config, "trainval").names),
            "test": len(bench.split(config, "test").names),
            "run": str(work_dir.relative_to(bench.out)),
        }

    def run_config(self, name: str, config: dict[str, Any], bench: EvalContext) -> Config:
        """Make the config of the run: the protocol's own with this backbone and data set."""
        cfg = Config(bench.cfg.to_dict(), filename=bench.cfg.filename)
        cfg.pop("protocol")
        train, test = bench.split(config, "trainval"), bench.split(config, "test")
        model = bench.spec.build()
        statistics = {"mean": self.mean or bench.spec.mean, "std": self.std or bench.spec.std}
        # Of a backbone with fewer blocks than are asked for, all.
        layers = sorted({min(count, getattr(model, "depth", 1)) for count in cfg.model.layers})
        cfg.merge_from_dict(
            {
                "model.backbone": {"_delete_": True, **bench.spec.config_with_weights(bench.out)},
                "model.num_classes": train.dataset.num_classes,
                "model.layers": layers,
                "model.data_preprocessor": {**cfg.model.data_preprocessor, **statistics},
            }
        )
        for loader, split, part in (
            ("train_dataloader", train, "trainval"),
            ("val_dataloader", test, "test"),
            ("test_dataloader", test, "test"),
        ):
            if self.cached:
                table = self.table(name, config, part, bench, "probe")
                cfg[loader].dataset = {
                    "type": "FeatureTable",
                    "features": str(table.folder / "features.npy"),
                    "labels": str(table.folder / "labels.npy"),
                    "num_classes": train.dataset.num_classes,
                }
                cfg[loader].collate_fn = {"type": "table_collate"}
            else:
                cfg[loader].dataset = {**split.config, "pipeline": cfg[loader].dataset.pipeline}
            cfg[loader].num_workers = bench.store.num_workers
            cfg[loader].persistent_workers = bench.store.num_workers > 0
        batch = min(self.batch_size, len(train.names))
        cfg.train_dataloader.batch_size = batch
        iterations = max(self.epochs * (len(train.names) // batch), self.min_iterations)
        every = max(1, iterations // self.validations)
        cfg.train_cfg.update(max_iters=iterations, val_interval=every)
        cfg.default_hooks.checkpoint.update(interval=every, max_keep_ckpts=1)
        run = [bench.spec.digest, bench.cfg.to_dict(), train.version, test.version]
        text = json.dumps(run, sort_keys=True, default=str)
        cfg.work_dir = str(bench.out / self.name / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
        cfg.experiment_name = f"{self.name}-{Path(cfg.work_dir).name}"
        cfg.resume = True
        return cfg

    def summarise(self, outcome: ProtocolResult) -> None:
        """Show the grids."""
        outcome.pictures = [f"{row['run']}/probe_grid.png" for row in outcome.rows.values()]
        if self.cached:
            outcome.notes.append("one view of each image, extracted once: not the paper's protocol")


def _best(path: Path) -> tuple[float, str]:
    """Accuracy and name of the best head of a run.

    Raises:
        DataError: The table is missing or damaged.
    """
    remedy = f"remove the folder {path.parent} and give the same command again"
    try:
        grid = read_json(path, remedy)
        return float(grid["best"]), str(grid["best_head"])
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is missing or damaged ({type(error).__name__}: {error}); {remedy}") from error
