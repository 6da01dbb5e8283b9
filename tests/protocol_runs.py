"""Contexts for tests of protocols: a small labelled set, a random backbone, and its saved features."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from proteus.datasets.fine_grained import FineGrainedSet
from proteus.datasets.fine_grained.listing import Listed
from proteus.evaluation.features.store import FeatureStore
from proteus.evaluation.protocols import EvalContext
from proteus.models.backbones import BackboneSpec, locate_backbone
from proteus.registry import DATASETS

PIPELINE = [
    {"type": "LoadImage"},
    {"type": "ResizeEdge", "scale": 32},
    {"type": "CenterCrop", "crop_size": 32},
    {"type": "ToTensor"},
    {"type": "PackInputs"},
]
SETS: dict[str, dict[str, Any]] = {"colours": {"type": "ClassFolders", "data_root": "colours"}}


def never(*arguments: Any) -> Any:
    """Fail: training and testing are not expected."""
    raise AssertionError("unexpected training or testing")


def eval_context(
    folder: Path,
    backbone: str = "random:test_vit",
    cfg: Config | None = None,
    train: Callable[[Config], Any] = never,
    img_size: int = 32,
) -> EvalContext:
    """Make a context with data in ``folder/data``, features in ``folder/cache`` and the report in ``folder/out``."""
    init_default_scope("proteus")
    spec = _spec(backbone, img_size)
    store = FeatureStore(folder / "cache", spec, batch_size=8, num_workers=0)
    return EvalContext(spec, store, folder / "data", folder / "out", cfg or Config(), never, train, never)


@lru_cache
def _spec(backbone: str, img_size: int) -> BackboneSpec:
    return locate_backbone(backbone, img_size=img_size)


def saved(folder: Path, part: str, tokens: str = "cls") -> tuple[np.ndarray, np.ndarray]:
    """Read the features ``(N, T, D)`` and labels that a protocol saved for the set ``colours``."""
    (table,) = (folder / "cache").glob(f"colours-{part}-{tokens}-*")
    return np.load(table / "features.npy"), np.load(table / "labels.npy")


class SeveralLabels(FineGrainedSet):
    """The images of ``colours``, each with the label of its class and of the next class.

    ``test`` has the official number of images; ``train`` does not.
    """

    title = "images of several labels"
    num_classes = 3
    metric = "map11"
    sizes = (999, None, 18)
    folder = "colours"
    markers = ("train",)
    layout = "train/class0/00.png"
    source = "a test"

    def list_part(self, part: Any) -> list[Listed]:
        """List the classes' images."""
        paths = sorted((self.home / part).rglob("*.png"))
        classes = [int(path.parent.name[-1]) for path in paths]
        labels = [np.isin(np.arange(3), (label, (label + 1) % 3)).astype(np.int8) for label in classes]
        return [Listed(str(path), label, path.name) for path, label in zip(paths, labels, strict=True)]


def with_several_labels() -> dict[str, dict[str, Any]]:
    """Return the sets of a protocol: a multi-label set."""
    if "SeveralLabels" not in DATASETS.module_dict:
        DATASETS.register_module(module=SeveralLabels)
    return {"colours": {"type": "SeveralLabels"}}
