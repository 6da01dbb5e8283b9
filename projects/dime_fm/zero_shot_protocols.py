"""Zero-shot evaluation on labelled sets and on ImageNet's variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from projects.dime_fm.distiller import UnpairedDistiller
from proteus.apis import load_config
from proteus.datasets import distill_collate
from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.metrics.classification import check_samples
from proteus.evaluation.protocols import ProtocolResult
from proteus.evaluation.scores import score
from proteus.evaluation.text.class_names import class_names
from proteus.evaluation.text.prompts import PromptEnsemble
from proteus.models.distillers.predictions import split_by_image
from proteus.registry import DATASETS, METRICS, PROTOCOLS

# Errors that stop one data set but not the others.
_REFUSALS = (FileNotFoundError, CorruptImageError, ValueError)
_METRICS = {"top1": "top-1", "mean_per_class": "mean per class", "map11": "11-point mAP"}
Sample = dict[str, Any]


@dataclass
class TextBench:
    """Context of zero-shot protocols.

    Attributes:
        model: Student and teacher, on their device, in eval mode.
        of: Models to evaluate: ``student``, ``teacher``.
        pipeline: Image transforms, those of validation during training.
        data_root: Folder of all data sets.
        folder: Folder of the protocol's config.
        only: Names of the sets to evaluate; all if empty.
        names: Folder of the user's lists of class names.
        batch_size: Images per batch.
        num_workers: Processes that read images.
    """

    model: UnpairedDistiller
    of: Sequence[str]
    pipeline: list[Any]
    data_root: Path
    folder: Path
    only: Sequence[str] = ()
    names: Path | None = None
    batch_size: int = 64
    num_workers: int = 0

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.student.logit_scale.device

    def classes(self, prompts: PromptEnsemble) -> dict[str, Tensor]:
        """Return the embeddings ``(C, D)`` of all classes by each evaluated model."""
        encoders = {"student": self.model.encode_texts, "teacher": self.model.teacher.encode_texts}
        length = self.model.teacher.context_length
        return {who: prompts.embed(encoders[who], length, self.device) for who in self.of}

    @torch.no_grad()
    def scored(self, dataset: Any, classes: Mapping[str, Tensor], title: str) -> Iterator[dict[str, list[Sample]]]:
        """Yield the metainfo of each batch of a labelled set with ``logits`` ``(C,)``, by model.

        Raises:
            DataError: An image has no label, or cannot be read; images are never skipped or replaced.
        """
        encoders = {"student": self.model.encode_images, "teacher": self.model.teacher.encode_images}
        scale = self.model.teacher.encoder.logit_scale.exp()
        loader = DataLoader(dataset, self.batch_size, num_workers=self.num_workers, collate_fn=distill_collate)
        for batch in tqdm(loader, desc=title, unit="batch", mininterval=5.0):
            images = self.model.data_preprocessor(batch)["inputs"]
            found = {}
            for who in self.of:
                logits = (scale * encoders[who](images) @ classes[who].T).float().cpu()
                found[who] = split_by_image({"logits": logits}, len(logits), batch["data_samples"])
                check_samples(found[who], "logits")
            yield found


@PROTOCOLS.register_module()
@dataclass
class DualEncoderZeroShot:
    """Classify each set's test images by class prompts, with the set's own metric, and average over the sets.

    Args:
        sets: Configs of labelled sets by name, as in the core's protocols: sets with splits, or a ``LabelledFolder``.
        templates: Sentences with ``{}`` by name of the set, and ``default`` for all others.
    """

    sets: Mapping[str, Mapping[str, Any]]
    templates: Mapping[str, Any]
    title: str = field(default="Zero-shot classification", init=False)

    def run(self, bench: TextBench) -> ProtocolResult:
        """Evaluate every set on disk; list missing and invalid ones."""
        outcome = ProtocolResult(self.title, "%")
        chosen = {name: config for name, config in self.sets.items() if not bench.only or name in bench.only}
        for name, config in chosen.items():
            try:
                located = _located(config, bench.data_root)
                if isinstance(located, str):
                    outcome.missing[name] = located
                else:
                    outcome.rows[name] = self._evaluate(name, located, bench)
            except _REFUSALS as error:
                outcome.failed[name] = str(error)
        _average(outcome, list(chosen), bench.of)
        return outcome

    def _evaluate(self, name: str, config: Mapping[str, Any], bench: TextBench) -> dict[str, Any]:
        dataset = DATASETS.build({**config, "pipeline": bench.pipeline})
        prompts = PromptEnsemble(
            class_names(dataset, name, bench.names), self.templates.get(name, self.templates["default"])
        )
        logits: dict[str, list[np.ndarray]] = {who: [] for who in bench.of}
        labels = []
        for found in bench.scored(dataset, bench.classes(prompts), name):
            for who, samples in found.items():
                logits[who] += [sample["logits"].numpy() for sample in samples]
            labels += [sample["label"] for sample in next(iter(found.values()))]
        metric = getattr(dataset, "metric", "top1")
        figures = {who: score(metric, np.stack(rows), np.stack(labels)) for who, rows in logits.items()}
        return {
            **figures,
            "metric": _METRICS[metric],
            "images": f"{len(labels):,}",
            "classes": len(prompts.names),
            "prompts per class": len(prompts.prompts("")),
            "remarks": getattr(dataset, "differences", ""),
        }


@PROTOCOLS.register_module()
@dataclass
class ZeroShotRobustness:
    """Classify ImageNet's validation images and its variants by prompts, as the core's ``Robustness`` tests a probe.

    The sets, their classes and the metrics are those of the core's configs; on ImageNet-A and -R the prediction is
    chosen from their 200 classes.

    Args:
        tests: Config files by data set, relative to the protocol's config. If a set has several, the first with images
            on disk is used.
        templates: Templates of :class:`PromptEnsemble`.
        averaged: Names of the shifted sets to average the top-1 accuracy of.
    """

    tests: Mapping[str, Any]
    templates: Any = "openai"
    averaged: Sequence[str] = ()
    title: str = field(default="Zero-shot robustness", init=False)

    def run(self, bench: TextBench) -> ProtocolResult:
        """Evaluate every set on disk; list missing and invalid ones."""
        outcome = ProtocolResult(self.title, "top-1, %; ImageNet-C: mCE, lower is better")
        classes: dict[str, Tensor] = {}
        for name, files in self.tests.items():
            if bench.only and name not in bench.only:
                continue
            configs = [load_config(bench.folder / file) for file in ([files] if isinstance(files, str) else files)]
            # The configs can be used alone, with data as the folder of all data sets.
            roots = [bench.data_root / Path(c.test_dataloader.dataset.data_root).relative_to("data") for c in configs]
            there = [pair for pair in zip(configs, roots, strict=True) if pair[1].is_dir()]
            if not there:
                kind = configs[0].test_dataloader.dataset.type
                outcome.missing[name] = f"{' or '.join(map(str, roots))}, for {kind} ({Path(configs[0].filename).name})"
                continue
            try:
                classes = classes or bench.classes(PromptEnsemble("imagenet", self.templates))
                outcome.rows[name] = self._evaluate(name, *there[0], classes, bench)
            except _REFUSALS as error:
                outcome.failed[name] = str(error)
        _average(outcome, [name for name in self.averaged if not bench.only or name in bench.only], bench.of)
        return outcome

    def _evaluate(
        self, name: str, cfg: Any, root: Path, classes: Mapping[str, Tensor], bench: TextBench
    ) -> dict[str, Any]:
        config = cfg.test_dataloader.dataset.to_dict()
        corrupted = "ImageNetC" in config["type"]
        pipeline = _fitted(config["pipeline"], bench.model.student.img_size) if corrupted else bench.pipeline
        dataset = DATASETS.build({**config, "data_root": str(root), "pipeline": pipeline})
        metrics = {who: METRICS.build(cfg.test_evaluator[0].to_dict()) for who in bench.of}
        for metric in metrics.values():
            metric.dataset_meta = dataset.metainfo
        for found in bench.scored(dataset, classes, name):
            for who, samples in found.items():
                metrics[who].process(None, samples)
        row: dict[str, Any] = {}
        for who, metric in metrics.items():
            figures = metric.compute_metrics(metric.results)
            main = figures.get("top1", figures.get("mCE"))
            row[who] = "no mCE: not all corruptions are there" if main is None else main
        return {**row, "metric": "mCE" if corrupted else "top-1", "images": dataset.describe()}


def _located(config: Mapping[str, Any], data_root: Path) -> dict[str, Any] | str:
    """Return the config of a set's test images with their folder, or the missing path."""
    kind: Any = DATASETS.get(config["type"])
    if not hasattr(kind, "find"):
        root = data_root / config["data_root"]
        return {**config, "data_root": str(root)} if root.is_dir() else f"{root} should hold CLASS/IMAGE"
    root = data_root / config["data_root"] if "data_root" in config else kind.find(data_root)
    if root is None or not root.is_dir():
        return f"{root or data_root / kind.folder} should hold {' '.join(kind.layout.split())}"
    return {**config, "data_root": str(root), "split": "test"}


def _average(outcome: ProtocolResult, names: Sequence[str], of: Sequence[str]) -> None:
    there = [outcome.rows[name] for name in names if name in outcome.rows]
    if there:
        title = f"average of {len(there)} of {len(names)}"
        outcome.rows[title] = {who: float(np.mean([row[who] for row in there])) for who in of}


def _fitted(pipeline: Sequence[Any], img_size: int) -> list[Any]:
    """Add a resize for models of other sizes: corrupted images have 224 pixels."""
    steps = [dict(step) for step in pipeline]
    if img_size == 224:
        return steps
    position = next(i for i, step in enumerate(steps) if step["type"].rpartition(".")[2] == "ToTensor")
    return [*steps[:position], {"type": "ResizeEdge", "scale": img_size, "interpolation": "bicubic"}, *steps[position:]]
