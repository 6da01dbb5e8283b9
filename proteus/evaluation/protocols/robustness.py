"""Robustness of a linear probe: ImageNet-A, -R, -Sketch and -C."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from proteus.config.build_errors import as_config_error
from proteus.evaluation.features.store import split_of
from proteus.evaluation.protocols.protocol import (
    EvalContext,
    Protocol,
    ProtocolResult,
    read_stored_result,
    set_loader,
)
from proteus.registry import DATASETS, PROTOCOLS
from proteus.structures import ConfigError, DataError, FullDiskError, LockedError


@PROTOCOLS.register_module()
class Robustness(Protocol):
    """Test a trained linear probe of ImageNet-1K on ImageNet-A, -R, -Sketch and -C.

    See docs/reproduction.md#robustness.

    Args:
        tests: Config files by data set, relative to the protocol's config. If a set has several, the first with images
            on disk is used.
        probe: Checkpoint of a probe, in the same folder as its run's config. Defaults to the linear protocol's probe in
            the same report: first the paper's, then the one on cached features.
    """

    def __init__(self, tests: Mapping[str, str | list[str]], probe: str | None = None) -> None:
        self.tests = {name: [files] if isinstance(files, str) else list(files) for name, files in tests.items()}
        if not self.tests:
            raise ValueError("protocol.tests is empty: there is nothing to evaluate on; name a config of a test set")
        self.probe = probe

    def run(self, context: EvalContext) -> ProtocolResult:
        """Test the probe on each set that is on disk."""
        result = ProtocolResult("Robustness of the linear probe", "top-1, %; ImageNet-C: mCE, lower is better")
        found = self._find_probe(context)
        if found is None:
            result.missing["linear probe"] = (
                "needs a probe of ImageNet-1K: run --protocols linear,robustness, or name its checkpoint, "
                "--protocols robustness --cfg-options protocol.probe=FILE"
            )
            return result
        checkpoint, model, note = found
        for name, files in self.tests.items():
            configs = [context.load(Path(context.cfg.filename).parent / file) for file in files]
            roots = [self._root(cfg, context) for cfg in configs]
            available = [(cfg, root) for cfg, root in zip(configs, roots, strict=True) if root.is_dir()]
            if not available:
                kind = configs[0].test_dataloader.dataset
                result.missing[name] = f"{' or '.join(map(str, roots))}, for {kind.type} in {configs[0].filename}"
                continue
            loaded, root = available[0]
            cfg = self._prepared(loaded, root, name, model, context)
            try:
                config = {**cfg.test_dataloader.dataset, "pipeline": []}
                with as_config_error(loaded):
                    dataset = DATASETS.build(config)
                # The config as it was loaded: workers and the place of the outputs change no score.
                settings = [_probe_key(checkpoint, model), loaded.to_dict(), _images_key(dataset, config)]
                compute = partial(self._evaluate, cfg, checkpoint, dataset.describe(), context)
                result.rows[name] = context.cached_result(f"robustness/{name}", settings, compute)
            except (FullDiskError, LockedError):
                raise  # the other sets would fail too
            except (FileNotFoundError, ValueError) as error:
                result.failed[name] = str(error)
        result.notes.append(note)
        return result

    def _find_probe(self, context: EvalContext) -> tuple[Path, Any, str] | None:
        """Find the probe: its checkpoint, its model's config and a note for the report."""
        if self.probe is not None:
            checkpoint = Path(self.probe)
            configs = sorted(checkpoint.parent.glob("*.py"))
            if not checkpoint.is_file() or not configs:
                raise FileNotFoundError(f"protocol.probe={self.probe}: no checkpoint with a config in the same folder")
            return checkpoint, Config.fromfile(configs[0]).model, f"the probe of {checkpoint}"
        for name in ("linear", "linear-cached"):
            row = context.out / "results" / name / "imagenet.json"
            if row.is_file():
                run = context.out / str(read_stored_result(row)["result"].get("run"))
                if not run.resolve().is_relative_to(context.out.resolve()):
                    raise DataError(f"{row} is damaged (run={run} is outside {context.out}); remove it")
                found, configs = find_latest_checkpoint(str(run)) if run.is_dir() else None, sorted(run.glob("*.py"))
                if found is None or not Path(found).is_file() or not configs:
                    raise DataError(
                        f"{run} no longer has a checkpoint of the probe; remove {row} and run --protocols {name} again"
                    )
                return Path(found), Config.fromfile(configs[0]).model, f"the probe of --protocols {name}"
        return None

    def _root(self, cfg: Config, context: EvalContext) -> Path:
        folder = ((cfg.get("test_dataloader") or {}).get("dataset") or {}).get("data_root")
        if not isinstance(folder, str):
            raise ConfigError(["test_dataloader.dataset.data_root: missing; write the set's folder"], str(cfg.filename))
        root = Path(folder).expanduser()
        # The configs also work on their own, where the folder of all data sets is called data.
        return context.data_root / (root.relative_to("data") if root.is_relative_to("data") else root)

    def _prepared(self, cfg: Config, root: Path, name: str, model: Any, context: EvalContext) -> Config:
        cfg = Config(cfg.to_dict(), filename=cfg.filename)
        cfg.model = model
        cfg.test_dataloader.dataset.data_root = str(root)
        set_loader(cfg.test_dataloader, context.store)
        cfg.work_dir = str(context.out / "robustness" / name)
        cfg.experiment_name = f"robustness-{name}"
        return cfg

    def _evaluate(self, cfg: Config, checkpoint: Path, images: str, context: EvalContext) -> dict[str, Any]:
        metrics = context.test(cfg, checkpoint)
        # Without the metric's prefix; the rest may contain a severity: snow/3.
        scores = {key.partition("/")[2]: value for key, value in metrics.items() if "/" in key}
        main = scores.pop("mCE", None) if "mCE" in scores else scores.pop("top1", None)
        row = {"top-1 or mCE": "no mCE: corruptions are missing" if main is None else main}
        errors = ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
        return {**row, "images": images, **({"errors": errors} if errors else {})}


def _probe_key(checkpoint: Path, model: Mapping[str, Any]) -> list[Any]:
    """Return what identifies a probe, wherever its files are, as JSON values."""
    file, backbone = checkpoint.stat(), dict(model.get("backbone") or {})
    for weights in ("checkpoint", "init_cfg"):  # the probe's checkpoint has them
        backbone.pop(weights, None)
    return [checkpoint.name, file.st_size, file.st_mtime_ns, {**model, "backbone": backbone}]


def _images_key(dataset: Any, config: Mapping[str, Any]) -> Any:
    """Return a digest of the images of a test set, so that completing the set changes it.

    For ImageNet-C it has the names of the images, but not their sizes and times: they are 3.75 million files.
    """
    if not hasattr(dataset, "parts"):
        return split_of(dataset, config).version
    digests: dict[int, str] = {}
    for part in dataset.parts:
        if id(part.names) not in digests:  # most parts share one list
            text = "\n".join(part.names)
            digests[id(part.names)] = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    parts = [[part.corruption, part.severity, str(part.folder), digests[id(part.names)]] for part in dataset.parts]
    return hashlib.sha256(json.dumps([dataset.describe(), parts]).encode()).hexdigest()
