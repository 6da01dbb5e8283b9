"""Features of whole data sets, extracted once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.structures import BaseDataElement
from torch import Tensor
from tqdm import tqdm

from proteus.datasets import MaskFolders, ProxySet, distill_collate
from proteus.datasets.transforms import CorruptImageError
from proteus.evaluation.features.extraction import digest_states, extract_rows, file_states
from proteus.evaluation.features.rows import Record, damaged, open_rows, read_record
from proteus.models.backbones import BackboneSpec
from proteus.models.backbones.features import probe
from proteus.models.distillers.data_preprocessor import as_floats
from proteus.registry import DATASETS
from proteus.structures import DataError
from proteus.utils import atomic_path, exclusive, load_npy
from proteus.utils.ranks import on_first_rank

Tokens = Literal["cls", "probe", "patches"]
_BLOCKS = 4


@dataclass(frozen=True)
class Table:
    """The features of a data set's images, in its order.

    Attributes:
        features: ``(N, T, D)``, mapped from disk. ``T`` is 1 for tokens ``cls``; for ``probe`` the tokens are the cls
            tokens of the last four blocks after the final norm, in order, and the last block's mean patch token
            (for a backbone without blocks: its cls token and its mean patch token). For ``patches`` they are the last
            block's patch tokens after the final norm; those that the data set has chosen, each followed by its labels
            ``(C,)``, where it has (:class:`~proteus.datasets.PatchMemory`).
        labels: ``(N,)`` int64, or ``(N, C)`` int8 if images have several labels.
        names: Name of each image; its path if it is a file.
        folder: Folder of ``features.npy`` and ``labels.npy``.
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
    """A split of a labelled data set with everything that is known without opening an image.

    Attributes:
        config: Config of the data set.
        dataset: The data set, a ``FineGrainedSet`` or one with masks.
        names: Name of each image.
        labels: ``(N,)`` int64 or ``(N, C)`` int8.
        digest: Digest of config, names and labels.
        files: ``(N, 2)`` int64, size in bytes and modification time in ns of the file that holds each image; ``(N, 4)``
            with those of its mask.
    """

    config: dict[str, Any]
    dataset: Any
    names: list[str]
    labels: np.ndarray
    digest: str
    files: np.ndarray

    def images(self, count: int | None = None) -> str:
        """Digest of the state of the image files, or of the first ``count`` of them."""
        return digest_states(self.files[:count])

    @property
    def version(self) -> str:
        """Digest of everything that results depend on, including the state of the image files."""
        return f"{self.digest}-{self.images()[:16]}"


def open_split(config: Mapping[str, Any]) -> Split:
    """Build a labelled data set and list its images and labels.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: The set is empty, has no labels, or has an unexpected layout.
    """
    return split_of(DATASETS.build(dict(config)), config)


def split_of(dataset: Any, config: Mapping[str, Any]) -> Split:
    """Do what :func:`open_split` does, for a data set that was already built from ``config``."""
    names, labels = _names_and_labels(dataset)
    text = json.dumps([config, names], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode() + labels.tobytes()).hexdigest()
    return Split(dict(config), dataset, names, labels, digest, file_states(names))


class FeatureStore:
    """Extract features and cache them under a key of everything that they depend on.

    The key is a digest of the backbone's weights and architecture, the data set's config with its transforms, the names
    and labels of its images, the normalisation statistics and the precision. If the size or modification time of an
    image file has changed since it was encoded, the table is extracted again. Re-running resumes an interrupted
    extraction.

    One process at a time writes a table; another one that needs it waits and then reads it. The ranks of a process
    group share the work (:func:`~proteus.evaluation.features.extraction.extract_rows`). A table is complete once all
    its rows are on disk, and a checksum verifies its bytes when it is opened.

    Args:
        root: Folder of the cache, with one folder per table.
        spec: The backbone.
        device: Device of the backbone: half precision on a GPU, as the released probe
            (docs/reproduction.md#linear-probe), else float32.
        batch_size: Images per batch.
        num_workers: Worker processes that read images; by default half the CPUs, at most 8.
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
        self._verified: dict[tuple[Path, Record], np.ndarray] = {}

    def table(
        self,
        split: Split,
        title: str,
        tokens: Tokens = "cls",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Table:
        """Return the features of a data set, from the cache or by extracting them.

        Args:
            split: The data set.
            title: Name of the data set in the progress bar and the folder's name.
            tokens: Tokens to extract; see :class:`Table`. A ``probe`` table also serves ``cls``.
            mean: Channel means to normalise with, for images in [0, 1]; the backbone's by default.
            std: Channel standard deviations; the backbone's by default.

        Raises:
            CorruptImageError: An image cannot be read.
            DataError: Features are not finite, or a file of the table is damaged; the message names the image or file.
            FullDiskError: The disk has too little space for the table.
        """
        statistics = [list(mean or self.spec.mean), list(std or self.spec.std)]
        for kind in ("probe", "cls") if tokens == "cls" else (tokens,):
            folder = self.root / f"{title.replace('/', '-')}-{kind}-{self._key(split, statistics, kind)}"
            features = self._shared(folder, split)
            if features is not None:
                break
        else:
            with exclusive(folder, f"extracting the features of {title}", wait=True):
                # Another process may have finished it in the meantime.
                features = self._shared(folder, split)
                if features is None:
                    self._extract(split, folder, title, tokens, statistics)
                    features = self._shared(folder, split)
            if features is None:
                raise damaged(folder / "rows.json", "it does not count the rows that were just written")
        return Table(features, split.labels, split.names, folder)

    @property
    def precision(self) -> str:
        """Precision of the features: ``float16`` on a GPU, else ``float32``."""
        return "float16" if self.device.type == "cuda" else "float32"

    def grid(self, img_size: int) -> tuple[int, int]:
        """Return the rows and columns of the backbone's patches for square images of ``img_size`` pixels."""
        return probe(self._build(), img_size).grid

    def width(self) -> int:
        """Return the width of the backbone's cls token."""
        return probe(self._build(), self.spec.config.get("img_size", 224)).cls.shape[-1]

    def _build(self) -> Any:
        if self._model is None:
            self._model = self.spec.build().to(self.device)
        return self._model

    def _shared(self, folder: Path, split: Split) -> np.ndarray | None:
        """Return what :meth:`_complete` returns on the first rank, so that all ranks extract, or none."""
        complete = on_first_rank(lambda: self._complete(folder, split) is not None)
        return self._complete(folder, split) if complete else None

    def _complete(self, folder: Path, split: Split) -> np.ndarray | None:
        """Return the features of a table, verified once per process; None if they are incomplete."""
        record = read_record(folder)
        if record is None or record.rows != len(split.names) or record.images != split.images():
            return None
        if (folder, record) not in self._verified:
            _check_labels(folder / "labels.npy", split.labels)
            self._verified[folder, record] = open_rows(folder, record)
        return self._verified[folder, record]

    def _key(self, split: Split, statistics: Any, kind: str) -> str:
        text = json.dumps([self.spec.digest, split.digest, statistics, kind, self.precision])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _extract(self, split: Split, folder: Path, title: str, tokens: Tokens, statistics: list[list[float]]) -> None:
        record = on_first_rank(lambda: self._resumable(split, folder, title))
        if is_main_process():
            with atomic_path(folder / "labels.npy") as temporary, temporary.open("wb") as file:
                np.save(file, split.labels)
        self._build()
        mean, std = (torch.tensor(values, device=self.device).view(-1, 1, 1) for values in statistics)

        def encode(batch: Any) -> np.ndarray:
            _check_readable(batch["data_samples"], title)
            images = (as_floats(batch["inputs"].to(self.device, non_blocking=True)) - mean) / std
            features = _chosen(self._encode(images, tokens), batch["data_samples"]).cpu()
            _check_finite(features, batch["data_samples"], self.spec.name, title)
            return features.numpy()

        state, workers = split.images, self.num_workers
        extract_rows(split.dataset, encode, folder, record, state, title, self.batch_size, workers, distill_collate)

    def _resumable(self, split: Split, folder: Path, title: str) -> Record | None:
        """Return the record of rows that can be kept; None if extraction must start from the first image."""
        record = read_record(folder)
        if record is None:
            if (folder / "rows.json").is_file():
                tqdm.write(f"{folder}: features of an earlier version, without checksums, are extracted again")
            return None
        if record.shape[0] != len(split.names):
            raise damaged(folder / "rows.json", f"a table of {record.shape[0]} rows for {len(split.names)} images")
        if record.images != split.images(record.rows):
            tqdm.write(f"{title}: image files have changed since their features were extracted; extracting them again")
            return None
        open_rows(folder, record)
        return record

    @torch.inference_mode()
    def _encode(self, images: Tensor, tokens: Tokens) -> Tensor:
        with _half_on_gpu(self.device):
            if tokens == "cls":
                return self._model(images).cls.float()[:, None]
            if tokens == "patches":
                return self._model(images).patches.float()
            blocks = min(_BLOCKS, self._model.depth) if hasattr(self._model, "levels") else 1
            levels = self._model.levels(images, range(-blocks, 0)) if blocks > 1 else [self._model(images)]
        return torch.stack([*(level.cls for level in levels), levels[-1].patches.mean(1)], dim=1).float()


def open_masks(dataset: MaskFolders, config: Mapping[str, Any], images: Sequence[int], view: Any = None) -> Split:
    """Describe images with masks as a split without labels.

    Args:
        dataset: The images and masks.
        config: What the features depend on in addition to the files.
        images: Positions of the images.
        view: Data set to read the images from; by default ``dataset``.
    """
    pairs = [dataset.pairs[index] for index in images]
    text = json.dumps([config, pairs], sort_keys=True, default=str)
    files = np.concatenate([file_states(paths) for paths in zip(*pairs, strict=True)], axis=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    names = [image for image, _ in pairs]
    return Split(dict(config), view or dataset, names, np.zeros(len(pairs), np.int64), digest, files)


def _chosen(tokens: Tensor, data_samples: Sequence[BaseDataElement]) -> Tensor:
    """Return the tokens that the data set has chosen, each followed by its labels; all tokens if it has not."""
    if "patch_index" not in data_samples[0]:
        return tokens
    index, labels = (
        torch.stack([data_sample.get(key) for data_sample in data_samples]).to(tokens.device)
        for key in ("patch_index", "patch_labels")
    )
    return torch.cat([tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2])), labels], dim=2)


def _names_and_labels(dataset: ProxySet) -> tuple[list[str], np.ndarray]:
    names, labels = [], []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if "label" not in info:
            raise DataError(f"{type(dataset).__name__} {dataset.data_root} has no labels: use a labelled data set")
        names.append(str(info["img_path"]))
        labels.append(info["label"])
    if not names:
        raise DataError(f"{type(dataset).__name__} {dataset.data_root} has no image")
    return names, np.asarray(labels, dtype=np.int8 if np.ndim(labels[0]) else np.int64)


def _check_labels(path: Path, labels: np.ndarray) -> None:
    try:
        found = load_npy(path, mapped=False)
    except (FileNotFoundError, DataError) as error:
        raise damaged(path, str(error)) from error
    if found.dtype != labels.dtype or not np.array_equal(found, labels):
        raise damaged(path, "its labels are not those of the data set")


def _half_on_gpu(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()


def _check_readable(data_samples: Sequence[BaseDataElement], title: str) -> None:
    corrupt = [name for data_sample in data_samples for name in data_sample.get("corrupt", ())]
    if corrupt:
        raise CorruptImageError(f"{title}: evaluation aborted, an image cannot be read: {corrupt[0]}")


def _check_finite(features: Tensor, data_samples: Sequence[BaseDataElement], backbone: str, title: str) -> None:
    wrong = (~features.isfinite().flatten(1).all(1)).nonzero()
    if len(wrong):
        name = data_samples[int(wrong[0])].img_path
        raise DataError(f"{title}: features of {backbone} are not finite (NaN or infinite), first for {name}")
