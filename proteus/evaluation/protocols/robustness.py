"""A linear probe on the variants of ImageNet's validation set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from proteus.evaluation.protocols.protocol import EvalContext, Protocol, ProtocolResult, read_result
from proteus.registry import DATASETS, PROTOCOLS
from proteus.structures import DataError, FullDiskError, LockedError


@PROTOCOLS.register_module()
class Robustness(Protocol):
    """Test a linear probe of ImageNet-1K, without training anything, on ImageNet-A, -R, -Sketch and -C.

    See docs/reproduction.md#robustness.

    Args:
        tests: Config files by data set, from the folder of the protocol's own config. Of several for one set, the
            first whose images are on disk is taken.
        probe: Checkpoint of a probe (its run's config lies beside it). By default that of the linear protocol in the
            same report: the paper's first, then the one on cached features.
    """

    def __init__(self, tests: Mapping[str, str | list[str]], probe: str | None = None) -> None:
        self.tests = {name: [files] if isinstance(files, str) else list(files) for name, files in tests.items()}
        if not self.tests:
            raise ValueError("protocol.tests is empty: there is nothing to evaluate on; name a config of a test set")
        self.probe = probe

    def run(self, bench: EvalContext) -> ProtocolResult:
        """Test the probe on each set that is on disk."""
        outcome = ProtocolResult("Robustness of the linear probe", "top-1, %; ImageNet-C: mCE, lower is better")
        found = self._found(bench)
        if found is None:
            outcome.missing["linear probe"] = (
                "a probe of ImageNet-1K is tested here: run --protocols linear,robustness, or name its checkpoint, "
                "--protocols robustness --cfg-options protocol.probe=FILE"
            )
            return outcome
        checkpoint, model, note = found
        for name, files in self.tests.items():
            configs = [bench.load(Path(bench.cfg.filename).parent / file) for file in files]
            roots = [self._root(cfg, bench) for cfg in configs]
            there = [(cfg, root) for cfg, root in zip(configs, roots, strict=True) if root.is_dir()]
            if not there:
                kind = configs[0].test_dataloader.dataset
                outcome.missing[name] = f"{' or '.join(map(str, roots))}, for {kind.type} in {configs[0].filename}"
                continue
            cfg = self._prepared(*there[0], name, model, bench)
            settings = [str(checkpoint), checkpoint.stat().st_mtime_ns, cfg.to_dict()]
            try:
                judge = partial(self._judge, cfg, checkpoint, bench)
                outcome.rows[name] = bench.remember(f"robustness/{name}", settings, judge)
            except (FullDiskError, LockedError):
                raise  # the other sets would fail too
            except (FileNotFoundError, ValueError) as error:
                outcome.failed[name] = str(error)
        outcome.notes.append(note)
        return outcome

    def _found(self, bench: EvalContext) -> tuple[Path, Any, str] | None:
        """The probe's checkpoint, its model's config, and what to say of it."""
        if self.probe is not None:
            checkpoint = Path(self.probe)
            configs = sorted(checkpoint.parent.glob("*.py"))
            if not checkpoint.is_file() or not configs:
                raise FileNotFoundError(f"protocol.probe={self.probe}: no checkpoint with a config beside it")
            return checkpoint, Config.fromfile(configs[0]).model, f"the probe of {checkpoint}"
        for name in ("linear", "linear-cached"):
            row = bench.out / "results" / name / "imagenet.json"
            if row.is_file():
                run = bench.out / str(read_result(row)["result"].get("run"))
                if not run.resolve().is_relative_to(bench.out.resolve()):
                    raise DataError(f"{row} is damaged (run={run} is outside {bench.out}); remove it")
                found, configs = find_latest_checkpoint(str(run)) if run.is_dir() else None, sorted(run.glob("*.py"))
                if found is None or not Path(found).is_file() or not configs:
                    raise DataError(
                        f"{run} has no checkpoint of the probe any more; remove {row} and run --protocols {name} again"
                    )
                return Path(found), Config.fromfile(configs[0]).model, f"the probe of --protocols {name}"
        return None

    def _root(self, cfg: Config, bench: EvalContext) -> Path:
        # The configs stand for themselves, too, and there the folder of all data sets is called data.
        return bench.data_root / Path(cfg.test_dataloader.dataset.data_root).relative_to("data")

    def _prepared(self, cfg: Config, root: Path, name: str, model: Any, bench: EvalContext) -> Config:
        cfg = Config(cfg.to_dict(), filename=cfg.filename)
        cfg.model = model
        cfg.test_dataloader.dataset.data_root = str(root)
        cfg.test_dataloader.num_workers = bench.store.num_workers
        cfg.test_dataloader.persistent_workers = bench.store.num_workers > 0
        cfg.work_dir = str(bench.out / "robustness" / name)
        cfg.experiment_name = f"robustness-{name}"
        return cfg

    def _judge(self, cfg: Config, checkpoint: Path, bench: EvalContext) -> dict[str, Any]:
        metrics = bench.test(cfg, checkpoint)
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, "pipeline": []})
        # Without the metric's prefix; what is left may name a severity: snow/3.
        figures = {key.partition("/")[2]: value for key, value in metrics.items() if "/" in key}
        main = figures.pop("mCE", None) if "mCE" in figures else figures.pop("top1", None)
        row = {"top-1 or mCE": "no mCE: not all corruptions are there" if main is None else main}
        errors = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
        return {**row, "images": dataset.describe(), **({"errors": errors} if errors else {})}
