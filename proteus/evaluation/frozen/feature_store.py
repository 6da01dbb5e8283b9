"""Features of whole data sets, extracted once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from proteus.datasets import ProxySet, distill_collate
from proteus.datasets.fine_grained import FineGrainedSet
from proteus.datasets.transforms import CorruptImageError
from proteus.models.backbones import BackboneSpec
from proteus.models.distillers.data_preprocessor import as_floats
from proteus.registry import DATASETS

Tokens = Literal["cls", "probe"]
# Work that an interrupted extraction may have to repeat.
_SECONDS_BETWEEN_MARKS = 20.0
_BLOCKS = 4


@dataclass(frozen=True)
class Table:
    """The features of a data set's images, in its order.

    Attributes:
        features: ``(N, T, D)``, mapped from disk. ``T`` is 1 for tokens ``cls``; for ``probe`` it is the cls tokens of
            the last four blocks after the final norm, first block first, and then the last block's mean patch token
            (of a backbone without blocks: its cls token and its mean patch).
        labels: ``(N,)`` int64, or ``(N, C)`` int8 where images have several labels.
        names: What each image is called; its path where it is a file.
        folder: Where both are: ``features.npy`` and ``labels.npy``.
    """

    features: np.ndarray
    labels: np.ndarray
    names: list[str]
    folder: Path

    @property
    def cls(self) -> np.ndarray:
        """The last block's cls token, ``(N, D)``, still on disk."""
        return self.features[:, -2 if self.features.shape[1] > 1 else 0]


@dataclass(frozen=True)
class Split:
    """A labelled data set, or a part of one, as far as it is known without opening an image.

    Attributes:
        config: What it was built from.
        dataset: The data set.
        names: What each image is called.
        labels: ``(N,)`` int64 or ``(N, C)`` int8.
        digest: Of config, names and labels.
    """

    config: dict[str, Any]
    dataset: FineGrainedSet
    names: list[str]
    labels: np.ndarray
    digest: str


def open_split(config: Mapping[str, Any]) -> Split:
    """Build a labelled data set and list what is in it.

    Raises:
        FileNotFoundError: A file or folder of it is missing.
        ValueError: Its images have no labels, or its layout is wrong.
    """
    dataset = DATASETS.build(dict(config))
    names, labels = _names_and_labels(dataset)
    text = json.dumps([config, names], sort_keys=True, default=str)
    return Split(dict(config), dataset, names, labels, hashlib.sha256(text.encode() + labels.tobytes()).hexdigest())


class FeatureStore:
    """Extracts features and keeps them under a key of everything that they depend on.

    The key is made of the backbone's weights and architecture, the data set's config with its transforms, its images'
    names and labels, the statistics of the normalisation and the arithmetic. An image that changed under its old name
    is not noticed: remove the folder then. An extraction that was interrupted goes on where it stopped.

    Args:
        root: Folder of the cache; one folder inside for each table.
        spec: The backbone.
        device: Where it runs: in half precision on a GPU, as the paper's probe does (protocols C.1), else in float32.
        batch_size: Images encoded at once.
        num_workers: Processes that read images.
    """

    def __init__(
        self,
        root: str | Path,
        spec: BackboneSpec,
        device: str = "cpu",
        batch_size: int = 64,
        num_workers: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.spec = spec
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.num_workers = min(8, (os.cpu_count() or 2) // 2) if num_workers is None else num_workers
        self._model: Any = None

    def table(
        self,
        split: Split,
        title: str,
        tokens: Tokens = "cls",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Table:
        """Give the features of a data set, from the cache or by extracting them.

        Args:
            split: The data set.
            title: What it is called, for the progress bar and the folder's name.
            tokens: Which; see :class:`Table`. A table of ``probe`` serves where ``cls`` is asked.
            mean: Channel means to normalise with, for images in [0, 1]; the backbone's by default.
            std: Channel standard deviations, likewise.

        Raises:
            CorruptImageError: An image cannot be read; nothing is left out or replaced.
            ValueError: Features are not finite; the message names the image.
        """
        statistics = [list(mean or self.spec.mean), list(std or self.spec.std)]
        total = len(split.names)
        for kind in ("probe", "cls") if tokens == "cls" else (tokens,):
            folder = self.root / f"{title.replace('/', '-')}-{kind}-{self._key(split, statistics, kind)}"
            done = _rows_done(folder)
            if done == total:
                break
        if done < total:
            np.save(_made(folder) / "labels.npy", split.labels)
            self._extract(split.dataset, folder, title, tokens, statistics, done)
        return Table(np.load(folder / "features.npy", mmap_mode="r"), split.labels, split.names, folder)

    def _key(self, split: Split, statistics: Any, kind: str) -> str:
        precision = "float16" if self.device.type == "cuda" else "float32"
        text = json.dumps([self.spec.digest, split.digest, statistics, kind, precision])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _extract(
        self, dataset: ProxySet, folder: Path, title: str, tokens: Tokens, statistics: list[list[float]], done: int
    ) -> None:
        if self._model is None:
            self._model = self.spec.build().to(self.device)
        mean, std = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in statistics)
        rest: Subset[Any] = Subset(dataset, range(done, len(dataset)))
        loader = DataLoader(rest, self.batch_size, num_workers=self.num_workers, collate_fn=distill_collate)
        out: np.memmap | None = None
        marked = time.monotonic()
        # A bar that is not looked at on a terminal would fill a log.
        quiet = 0.5 if sys.stderr.isatty() else 30.0
        with tqdm(total=len(dataset), initial=done, desc=title, unit="img", mininterval=quiet) as bar:
            for batch in loader:
                _refuse_corrupt(batch["metas"], title)
                images = (as_floats(batch["images"].to(self.device, non_blocking=True)) - mean) / std
                features = self._encode(images, tokens).cpu()
                _refuse_nan(features, batch["metas"], self.spec.name, title)
                if out is None:
                    out = _opened(folder, (len(dataset), *features.shape[1:]), done)
                out[done : done + len(features)] = features.numpy()
                done += len(features)
                bar.update(len(features))
                if time.monotonic() - marked > _SECONDS_BETWEEN_MARKS:
                    _mark(folder, out, done)
                    marked = time.monotonic()
        if out is not None:
            _mark(folder, out, done)

    @torch.inference_mode()
    def _encode(self, images: Tensor, tokens: Tokens) -> Tensor:
        with _half_on_gpu(self.device):
            if tokens == "cls":
                return self._model(images).cls.float()[:, None]
            blocks = min(_BLOCKS, self._model.depth) if hasattr(self._model, "levels") else 1
            levels = self._model.levels(images, range(-blocks, 0)) if blocks > 1 else [self._model(images)]
        return torch.stack([*(level.cls for level in levels), levels[-1].patches.mean(1)], dim=1).float()


def _names_and_labels(dataset: ProxySet) -> tuple[list[str], np.ndarray]:
    names, labels = [], []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if "label" not in info:
            raise ValueError(f"{type(dataset).__name__} {dataset.data_root} gives no labels: use a labelled data set")
        names.append(str(info["img_path"]))
        labels.append(info["label"])
    return names, np.asarray(labels, dtype=np.int8 if np.ndim(labels[0]) else np.int64)


def _half_on_gpu(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()


def _refuse_corrupt(metas: list[dict[str, Any]], title: str) -> None:
    corrupt = [name for meta in metas for name in meta.get("corrupt", ())]
    if corrupt:
        raise CorruptImageError(f"{title}: an image cannot be read, and no figure is made without it: {corrupt[0]}")


def _refuse_nan(features: Tensor, metas: list[dict[str, Any]], backbone: str, title: str) -> None:
    wrong = (~features.isfinite().flatten(1).all(1)).nonzero()
    if len(wrong):
        name = metas[int(wrong[0])]["img_path"]
        raise ValueError(f"{title}: {backbone} gives features that are not finite (NaN or infinite), first for {name}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _opened(folder: Path, shape: tuple[int, ...], done: int) -> np.memmap:
    path = folder / "features.npy"
    return open_memmap(path, "r+") if done else open_memmap(path, "w+", np.float32, shape)


def _mark(folder: Path, out: np.memmap, done: int) -> None:
    out.flush()
    partial = folder / "rows.json.partial"
    partial.write_text(json.dumps({"rows": done}))
    partial.replace(folder / "rows.json")


def _rows_done(folder: Path) -> int:
    path = folder / "rows.json"
    return int(json.loads(path.read_text())["rows"]) if path.is_file() else 0
