"""Base classes of evaluation protocols, their context and their results."""

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

import numpy as np
from mmengine.config import Config, ConfigDict

from proteus.datasets.fine_grained import FineGrainedSet
from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.features.store import FeatureStore, Split, Table, Tokens, open_split
from proteus.models.backbones import BackboneSpec
from proteus.registry import DATASETS
from proteus.structures import DataError, FullDiskError, LockedError
from proteus.utils import read_json, write_json

PARTS = ("trainval", "test")
# Errors of one data set, after which the others are evaluated; any other error is a bug.
_SET_ERRORS = (FileNotFoundError, CorruptImageError, ValueError)


@dataclass
class ProtocolResult:
    """Scores of one protocol.

    Attributes:
        title: The protocol's name in reports.
        unit: Unit of the scores, such as ``top-1, %``.
        rows: Scores and other values by data set and column.
        summary: Scores over all data sets.
        missing: Data sets that are not on disk, with the expected path and layout.
        failed: Data sets that could not be evaluated, with the error.
        notes: Remarks that belong to the scores.
        pictures: Image files, relative to the report.
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
        """Convert to a dict for JSON."""
        return asdict(self)


@dataclass
class EvalContext:
    """Backbone, folders and functions that a protocol works with.

    Attributes:
        spec: The backbone.
        store: Extracts and caches its features.
        data_root: Folder of all data sets.
        out: Folder of the report.
        cfg: The protocol's full config.
        load: Loads another config for the same image size.
        train: Trains a runner's config.
        test: Tests a runner's config with a checkpoint and returns the metrics.
        draw: Draws segmentations ``(image, prediction, truth)`` of a number of classes into a file.
    """

    spec: BackboneSpec
    store: FeatureStore
    data_root: Path
    out: Path
    cfg: Config
    load: Callable[[Path], Config]
    train: Callable[[Config], Any]
    test: Callable[[Config, str | Path], dict[str, float]]
    draw: Callable[[Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], int, Path], Any] | None = None
    _splits: dict[str, Split] = field(default_factory=dict)

    def split(self, config: Mapping[str, Any], part: str) -> Split:
        """Open ``trainval`` or ``test`` of a labelled data set; each is opened once."""
        config = {**config, "split": part}
        key = json.dumps(config, sort_keys=True, default=str)
        if key not in self._splits:
            self._splits[key] = open_split(config)
        return self._splits[key]

    def backbone_key(self) -> list[Any]:
        """Return what features depend on in addition to the images, as JSON values."""
        return [self.spec.digest, self.spec.mean, self.spec.std, self.store.precision]

    def cached_result(self, title: str, settings: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the stored result of an earlier call with the same backbone and settings, or compute and store it.

        Args:
            title: Name of the file, such as ``knn/imagenet``.
            settings: Everything that the result depends on in addition to the backbone, its statistics and the
                precision, as JSON values.
            compute: Computes the result.

        Raises:
            DataError: The stored result is damaged, or a score of the new one is not finite.
        """
        text = json.dumps([*self.backbone_key(), settings], sort_keys=True, default=str)
        path = self.out / "results" / f"{title}.json"
        key = hashlib.sha256(text.encode()).hexdigest()
        if path.is_file():
            stored = read_stored_result(path)
            if stored["key"] == key:
                return stored["result"]
        result = compute()
        wrong = [name for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)]
        if wrong:
            raise DataError(f"{title}: {', '.join(wrong)} is not a finite number: there is nothing to compute it from")
        write_json(path, {"key": key, "result": result}, indent=1)
        return result


def read_stored_result(path: Path) -> dict[str, Any]:
    """Read a file of :meth:`EvalContext.cached_result`: ``key`` and ``result``.

    Raises:
        DataError: The file is damaged.
    """
    stored = read_json(path)
    scores = stored.get("result") if isinstance(stored, dict) else None
    if not isinstance(scores, dict) or not isinstance(stored.get("key"), str):
        raise DataError(f"{path} is damaged (no key and result); remove it and run the same command again")
    if any(isinstance(value, float) and not math.isfinite(value) for value in scores.values()):
        raise DataError(f"{path} is damaged (a score is not a number); remove it and run the same command again")
    return stored


class Protocol(ABC):
    """Base class of evaluation protocols.

    A config file holds one, as ``protocol = dict(type=...)``; ``proteus evaluate`` runs it.
    """

    @abstractmethod
    def run(self, context: EvalContext) -> ProtocolResult:
        """Evaluate the context's backbone on all data sets that are on disk."""


class SetProtocol(Protocol):
    """A protocol that evaluates frozen features on one labelled data set at a time.

    Args:
        sets: Configs of labelled data sets by name. ``data_root`` is their folder inside the folder of all data sets,
            by default the one of the set's class.
        pipeline: Transforms of an image.
        mean: Channel means to normalise with; the backbone's by default.
        std: Channel standard deviations; the backbone's by default.

    Raises:
        ValueError: No set is given, or a mean or standard deviation is not three finite numbers.
    """

    name: str
    title: str
    unit: str
    tokens: Tokens | None = "cls"
    """Tokens of the features that :meth:`evaluate` reads; None if it reads none."""
    set_type: type = FineGrainedSet
    """Base class of the data sets."""
    own_set: str = "ClassFolders"
    """Type of a user's own data set, for ``--sets``."""
    own_layout: str = "a folder of classes"
    """What that data set is, for messages."""

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
    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return what a result depends on in addition to the backbone, the data set and the transforms."""

    @abstractmethod
    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Evaluate one data set, given its config with folder and pipeline, and return its row of the report."""

    def summarise(self, result: ProtocolResult) -> None:
        """Add scores over all data sets and notes to the result."""

    def run(self, context: EvalContext) -> ProtocolResult:
        """Evaluate every data set that is on disk; list those that are missing and those that fail."""
        result = ProtocolResult(self.title, self.unit)
        for name in self.sets:
            config = self._on_disk(name, context, result)
            if config is None:
                continue
            try:
                parts = self.open_parts(name, config, context)
                settings = [self.settings(context), self.mean, self.std, [part.version for part in parts]]
                compute = partial(self.evaluate, name, config, context)
                result.rows[name] = context.cached_result(f"{self.name}/{name}", settings, compute)
            except (FullDiskError, LockedError):
                raise  # the other sets would fail too
            except _SET_ERRORS as error:
                result.failed[name] = str(error)
        self.summarise(result)
        return result

    def extract(self, context: EvalContext) -> None:
        """Extract the features that :meth:`run` reads, on all ranks of a process group, which call this together.

        Sets that are missing or fail are left to :meth:`run`, which reports them.
        """
        if self.tokens is None:
            return
        for name in self.sets:
            config = self._on_disk(name, context, ProtocolResult(self.title, self.unit))
            if config is None:
                continue
            try:
                self.open_parts(name, config, context)
                self.extract_parts(name, config, context)
            except (FullDiskError, LockedError):
                raise
            except _SET_ERRORS:
                continue

    def open_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> list[Split]:
        """Open the training and test part of a data set and check them, without reading an image.

        Raises:
            DataError: The set has one class, where every prediction is correct.
        """
        parts = [context.split(config, part) for part in PARTS]
        refuse_one_class(name, parts[0])
        return parts

    def extract_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> None:
        """Extract the features of a data set that :meth:`evaluate` reads."""
        assert self.tokens is not None
        for part in PARTS:
            self.table(name, config, part, context, self.tokens)

    def _on_disk(self, name: str, context: EvalContext, result: ProtocolResult) -> dict[str, Any] | None:
        """Return the config of a data set with its folder and pipeline; None, with a note, if it is not on disk."""
        config = self.sets[name]
        kind: Any = DATASETS.get(config["type"])
        fits = isinstance(kind, type) and issubclass(kind, self.set_type)
        if not fits:
            raise DataError(
                f"protocol.sets.{name}.type={config['type']!r} is not a data set of this protocol; write "
                f"type={self.own_set!r} for {self.own_layout}"
            )
        root = context.data_root / config["data_root"] if "data_root" in config else kind.find(context.data_root)
        if root is not None and root.is_file():
            result.failed[name] = f"{root} is a file; {kind.layout} should be in a folder of that name"
            return None
        if root is None or not root.is_dir():
            result.missing[name] = f"{root or context.data_root / kind.folder} should hold {kind.layout}"
            return None
        return {**config, "data_root": str(root), "pipeline": self.pipeline}

    def table(
        self, name: str, config: Mapping[str, Any], part: str, context: EvalContext, tokens: Tokens = "cls"
    ) -> Table:
        """Return the features of one part of a data set, normalised with the protocol's statistics."""
        return context.store.table(context.split(config, part), f"{name}-{part}", tokens, self.mean, self.std)


def _are_channel_values(values: Any, positive: bool) -> bool:
    numbers = isinstance(values, Sequence) and all(type(value) in (int, float) for value in values)
    return (
        numbers and len(values) == 3 and all(math.isfinite(value) and (value > 0 or not positive) for value in values)
    )


def refuse_one_class(name: str, split: Split) -> None:
    """Raise a DataError for a set with one class, where every prediction is correct."""
    if split.dataset.num_classes < 2:
        raise DataError(
            f"{name}: {split.dataset.data_root} has {split.dataset.num_classes} class; an accuracy needs two or more, "
            "a folder for each"
        )


def check_validation_part(name: str, in_val: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Raise a DataError for a set with too few images to fit or validate on, before an image is read."""
    if in_val.all() or not in_val.any():
        raise DataError(
            f"{name}: {len(in_val)} training images, {int(in_val.sum())} of them for validation; both parts need "
            "one (without a val split, a fifth of the training images is used for validation: provide 5 or more)"
        )
    fitted = labels[~in_val]
    present = fitted.any(axis=0) if fitted.ndim == 2 else np.isin(np.arange(classes), fitted)
    if not present.all():
        absent = np.flatnonzero(~present).tolist()
        raise DataError(
            f"{name}: {len(absent)} of {classes} classes have no training image apart from those for "
            f"validation: {absent[:10]}; provide more images of each class, or a val split"
        )


def set_loader(loader: ConfigDict, store: FeatureStore) -> None:
    """Let a run read images as the store does: with as many workers, and for its device."""
    loader.num_workers = store.num_workers
    loader.persistent_workers = store.num_workers > 0
    loader.pin_memory = store.device.type == "cuda"
