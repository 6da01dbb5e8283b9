"""What every way of judging a backbone has in common."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from proteus.datasets.fine_grained import FineGrainedSet
from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.features.store import FeatureStore, Split, Table, Tokens, open_split
from proteus.models.backbones import BackboneSpec
from proteus.registry import DATASETS
from proteus.structures import DataError, FullDiskError, LockedError
from proteus.utils import read_json, write_json

# What stops one data set and lets the others go on; anything else is a fault of ours.
_REFUSALS = (FileNotFoundError, CorruptImageError, ValueError)


@dataclass
class ProtocolResult:
    """What a protocol found out.

    Attributes:
        title: The protocol's name for people.
        unit: What its figures are, such as ``top-1, %``.
        rows: Figures and words by data set and column.
        summary: Figures over all data sets.
        missing: Data sets that are not on disk, and what should be where.
        failed: Data sets that are on disk but wrong, and how.
        notes: What a reader of the figures must know.
        pictures: Files beside the report.
    """

    title: str
    unit: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class EvalContext:
    """What a protocol works with.

    Attributes:
        spec: The backbone.
        store: Where its features come from.
        data_root: Folder of all data sets.
        out: Folder of the report.
        cfg: The whole config that the protocol stands in.
        load: Loads another config, for the same size of images.
        train: Trains a runner's config.
        test: Tests a runner's config with a checkpoint; returns the metrics.
    """

    spec: BackboneSpec
    store: FeatureStore
    data_root: Path
    out: Path
    cfg: Config
    load: Callable[[Path], Config]
    train: Callable[[Config], Any]
    test: Callable[[Config, str | Path], dict[str, float]]
    _splits: dict[str, Split] = field(default_factory=dict)

    def split(self, config: Mapping[str, Any], part: str) -> Split:
        """Open ``trainval`` or ``test`` of a labelled data set; each is listed once."""
        config = {**config, "split": part}
        key = json.dumps(config, sort_keys=True, default=str)
        if key not in self._splits:
            self._splits[key] = open_split(config)
        return self._splits[key]

    def remember(self, title: str, settings: Any, judge: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Give a result of an earlier call with the same backbone and settings, or work it out and keep it.

        Args:
            title: For the file's name, such as ``knn/imagenet``.
            settings: All that the result depends on beside the backbone; anything JSON can hold.
            judge: Works it out.

        Raises:
            DataError: The file of the earlier result is damaged, or a figure of the new one is not a finite number.
        """
        text = json.dumps([self.spec.digest, settings], sort_keys=True, default=str)
        path = self.out / "results" / f"{title}.json"
        key = hashlib.sha256(text.encode()).hexdigest()
        if path.is_file():
            kept = read_result(path)
            if kept["key"] == key:
                return kept["result"]
        result = judge()
        wrong = [name for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)]
        if wrong:
            raise DataError(f"{title}: {', '.join(wrong)} is not a finite number: there is nothing to compute it from")
        write_json(path, {"key": key, "result": result}, indent=1)
        return result


def read_result(path: Path) -> dict[str, Any]:
    """Read what :meth:`EvalContext.remember` kept: ``key``, and ``result`` by name.

    Raises:
        DataError: The file is damaged.
    """
    kept = read_json(path)
    figures = kept.get("result") if isinstance(kept, dict) else None
    if not isinstance(figures, dict) or not isinstance(kept.get("key"), str):
        raise DataError(f"{path} is damaged (no key and result); remove it and give the same command again")
    if any(isinstance(value, float) and not math.isfinite(value) for value in figures.values()):
        raise DataError(f"{path} is damaged (a figure is not a number); remove it and give the same command again")
    return kept


class Protocol(ABC):
    """One way of judging a backbone.

    A config file holds one, as ``protocol = dict(type=...)``; ``tools/evaluate.py`` runs it.
    """

    @abstractmethod
    def run(self, bench: EvalContext) -> ProtocolResult:
        """Judge the bench's backbone on all data sets that are on disk."""


class SetProtocol(Protocol):
    """A protocol that judges one labelled data set at a time on frozen features.

    Args:
        sets: Configs of labelled data sets by name. ``data_root`` is their folder below the folder of all data sets,
            by default the one that the set's class names.
        pipeline: Transforms of an image.
        mean: Channel means to normalise with; the backbone's own by default.
        std: Channel standard deviations, likewise.

    Raises:
        ValueError: No set is given, or a mean or standard deviation is not three finite numbers.
    """

    name: str
    title: str
    unit: str

    def __init__(
        self,
        sets: Mapping[str, Mapping[str, Any]],
        pipeline: Sequence[Mapping[str, Any]],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.sets = {name: dict(config) for name, config in sets.items() if config}
        self.pipeline = [dict(step) for step in pipeline]
        if not self.sets:
            raise ValueError("protocol.sets is empty: there is nothing to evaluate on; name a labelled set")
        for key, values in (("mean", mean), ("std", std)):
            if values is not None and not _are_channel_values(values, positive=key == "std"):
                raise ValueError(f"protocol.{key}={values!r}: write three numbers, for images in [0, 1], or None")
        self.mean, self.std = mean, std

    @abstractmethod
    def settings(self, bench: EvalContext) -> dict[str, Any]:
        """What a result depends on beside the backbone, the data set and the transforms."""

    @abstractmethod
    def judge(self, name: str, config: dict[str, Any], bench: EvalContext) -> dict[str, Any]:
        """Judge one data set; ``config`` has its folder and the pipeline. Returns the report's row."""

    def summarise(self, outcome: ProtocolResult) -> None:
        """Add figures over all data sets and notes to the outcome."""

    def run(self, bench: EvalContext) -> ProtocolResult:
        """Judge every data set that is there; name those that are not, and those that are wrong."""
        outcome = ProtocolResult(self.title, self.unit)
        for name, config in self.sets.items():
            kind = DATASETS.get(config["type"])
            if not (isinstance(kind, type) and issubclass(kind, FineGrainedSet)):
                raise DataError(
                    f"protocol.sets.{name}.type={config['type']!r} is not a labelled set with splits; write "
                    "type='ClassFolders' for a folder of classes"
                )
            root = bench.data_root / config["data_root"] if "data_root" in config else kind.find(bench.data_root)
            if root is not None and root.is_file():
                outcome.failed[name] = f"{root} is a file; {kind.layout} should be in a folder of that name"
                continue
            if root is None or not root.is_dir():
                outcome.missing[name] = f"{root or bench.data_root / kind.folder} should hold {kind.layout}"
                continue
            config = {**config, "data_root": str(root), "pipeline": self.pipeline}
            try:
                parts = [bench.split(config, part) for part in ("trainval", "test")]
                _refuse_one_class(name, parts[0])
                settings = [self.settings(bench), self.mean, self.std, [part.version for part in parts]]
                judge = partial(self.judge, name, config, bench)
                outcome.rows[name] = bench.remember(f"{self.name}/{name}", settings, judge)
            except (FullDiskError, LockedError):
                raise  # the other sets would fail too
            except _REFUSALS as error:
                outcome.failed[name] = str(error)
        self.summarise(outcome)
        return outcome

    def table(
        self, name: str, config: Mapping[str, Any], part: str, bench: EvalContext, tokens: Tokens = "cls"
    ) -> Table:
        """Give the features of one part of a data set, normalised as the protocol says."""
        return bench.store.table(bench.split(config, part), f"{name}-{part}", tokens, self.mean, self.std)


def _are_channel_values(values: Any, positive: bool) -> bool:
    numbers = isinstance(values, Sequence) and all(type(value) in (int, float) for value in values)
    return (
        numbers and len(values) == 3 and all(math.isfinite(value) and (value > 0 or not positive) for value in values)
    )


def _refuse_one_class(name: str, split: Split) -> None:
    """Refuse a set with one class, where every answer would be right."""
    if split.dataset.num_classes < 2:
        raise DataError(
            f"{name}: {split.dataset.data_root} has {split.dataset.num_classes} class; an accuracy needs two or more, "
            "a folder for each"
        )
