"""Data set of extracted features in NumPy files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from proteus.datasets.seeding import SampleKey
from proteus.registry import DATASETS, FUNCTIONS
from proteus.structures import DataError
from proteus.utils import load_npy


@DATASETS.register_module()
class FeatureTable(Dataset[dict[str, Any]]):
    """Tokens and labels in NumPy files, read row by row: the tokens need not fit into memory.

    The tokens of an image are those of ``LinearProbe.tokens``: the cls tokens of the last blocks, in the order of the
    blocks, and the mean patch token.

    Args:
        features: ``.npy`` file ``(N, T, D)``, float16 or float32.
        labels: ``.npy`` file ``(N,)`` of class indices from 0.
        num_classes: Number of classes; None allows any label.
        width: Expected ``D``, the width of the backbone that is probed; None allows any.

    Raises:
        FileNotFoundError: A file is missing.
        DataError: A file is not such an array, or the files do not fit each other or the arguments.
    """

    def __init__(self, features: str, labels: str, num_classes: int | None = None, width: int | None = None) -> None:
        self.features, self.labels = str(features), str(labels)
        table = self._table = _open("dataset.features", features)
        self._labels = _open("dataset.labels", labels)
        if table.ndim != 3 or table.dtype not in (np.float16, np.float32) or 0 in table.shape[1:]:
            raise DataError(
                f"dataset.features: {features} holds {table.dtype} {table.shape}; expected float16 or float32 "
                "(images, tokens, width)"
            )
        if self._labels.ndim != 1 or not np.issubdtype(self._labels.dtype, np.integer):
            raise DataError(
                f"dataset.labels: {labels} holds {self._labels.dtype} {self._labels.shape}; expected integers (images,)"
            )
        if len(table) != len(self._labels) or not len(table):
            raise DataError(
                f"dataset.labels: {labels} has {len(self._labels):,} rows, but {features} has {len(table):,}: give the "
                "files of one extraction with at least one image"
            )
        if width not in (None, table.shape[2]):
            raise DataError(
                f"dataset.features: {features} has tokens of width {table.shape[2]}, but dataset.width={width}: "
                "extract them with the backbone that is probed, or name that backbone in model.backbone"
            )
        self._check_labels(num_classes)

    def _check_labels(self, num_classes: int | None) -> None:
        upper = np.iinfo(np.int64).max if num_classes is None else num_classes
        wrong = np.flatnonzero((self._labels < 0) | (self._labels >= upper))
        if len(wrong):
            span = "0 or more" if num_classes is None else f"from 0 to dataset.num_classes - 1 = {upper - 1}"
            raise DataError(
                f"dataset.labels: row {wrong[0]} of {self.labels} is {self._labels[wrong[0]]} ({len(wrong):,} rows are "
                f"wrong); labels must be {span}"
            )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """Load ``tokens`` ``(T, D)`` of one image, and ``data_samples`` with its ``label`` and ``row``.

        Raises:
            DataError: A value is not finite.
        """
        row = int(key)
        tokens = np.array(self._table[row])
        if not np.isfinite(tokens).all():
            raise DataError(
                f"dataset.features: row {row} of {self.features} has NaN or infinite values; extract "
                "it again, in bfloat16 or float32 if it was in float16"
            )
        return {
            "tokens": torch.from_numpy(tokens),
            "data_samples": BaseDataElement(metainfo={"label": int(self._labels[row]), "row": row}),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the arrays: pickling them for a worker would read them into memory."""
        return {**self.__dict__, "_table": None, "_labels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files again."""
        self.__dict__.update(state)
        self._table = _open("dataset.features", self.features)
        self._labels = _open("dataset.labels", self.labels)


@FUNCTIONS.register_module()
def table_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack rows of a :class:`FeatureTable`.

    Returns:
        ``tokens`` ``(B, T, D)``, ``labels`` ``(B,)`` int64 and ``data_samples``.
    """
    data_samples = [sample["data_samples"] for sample in samples]
    return {
        "tokens": torch.stack([sample["tokens"] for sample in samples]),
        "labels": torch.tensor([data_sample.label for data_sample in data_samples]),
        "data_samples": data_samples,
    }


def _open(key: str, path: str | Path) -> Any:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{key}: {path} does not exist")
    try:
        return load_npy(path)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error
