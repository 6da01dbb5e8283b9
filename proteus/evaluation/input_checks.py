"""Checks of the features and labels that classifiers and scores take."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Array: TypeAlias = "np.ndarray | Tensor"


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy; a boolean is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def to_numpy(values: Array) -> np.ndarray:
    """Convert to a NumPy array; arrays (memory maps stay on disk) and CPU tensors are not copied."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)


def checked_labels(labels: Array, num_classes: int | None, name: str = "labels") -> np.ndarray:
    """Check class indices and return them as ``(N,)`` int64.

    Args:
        labels: ``(N,)`` integers.
        num_classes: Labels must be below it; None: any number of classes.
        name: Name in error messages.

    Raises:
        ValueError: Not one integer per image, empty, or a label is out of range.
    """
    found = to_numpy(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer) or len(found) == 0:
        raise ValueError(f"{name} should be class indices, integers (N,), N > 0; found {found.dtype} {found.shape}")
    wrong = (found < 0) if num_classes is None else (found < 0) | (found >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        valid = "be 0 or more" if num_classes is None else f"lie between 0 and {num_classes - 1}"
        raise ValueError(
            f"{name}[{row}] is {found[row]}; labels must {valid}: classes are numbered from 0, and num_classes is "
            "their number"
        )
    return found.astype(np.int64)


def checked_multi_labels(labels: Array, name: str = "labels") -> np.ndarray:
    """Check the labels of a multi-label set and return them as ``(N, C)`` int64 of 0 and 1.

    Args:
        labels: ``(N, C)``, numbers or booleans.
        name: Name in error messages.

    Raises:
        ValueError: Another shape, or values other than 0 and 1.
    """
    found = to_numpy(labels)
    if found.ndim != 2 or found.size == 0:
        raise ValueError(f"{name} of a multi-label set should be (N, C) of 0 and 1; found {found.shape}")
    wrong = ~np.isin(found, (0, 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{name}[{row}, {column}] is {found[row, column]}; a multi-label set marks classes with 0 and 1 "
            "(map PASCAL's -1 and 'difficult' 0 to 0)"
        )
    return found.astype(np.int64)


def checked_features(features: Array, name: str = "features") -> np.ndarray:
    """Check features and return them as ``(N, D)`` float64, in memory.

    Args:
        features: ``(N, D)``.
        name: Name in error messages.

    Raises:
        ValueError: Another shape, no rows, or a value that is NaN or infinite.
    """
    found = to_numpy(features)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name} should be (N, D), one row per image; found {found.shape}")
    found = np.asarray(found, dtype=np.float64)
    check_rows_finite(found, name)
    return found


def checked_split(
    split: tuple[Array, Array], num_classes: int | None, multi_label: bool, name: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Check a split and return its features ``(N, D)`` float64 and its labels int64.

    Args:
        split: Features, and labels ``(N,)``, or ``(N, C)`` with ``multi_label``.
        num_classes: Number of classes; None: any.
        multi_label: Whether an image can have several labels.
        name: Name of the split in error messages.

    Raises:
        ValueError: Features are not finite, labels are out of range, or their numbers differ.
    """
    name = f"{name} " if name else ""
    features = checked_features(split[0], f"{name}features")
    if multi_label:
        labels = checked_multi_labels(split[1], f"{name}labels")
        if num_classes is not None and labels.shape[1] != num_classes:
            raise ValueError(f"{name}labels mark {labels.shape[1]} classes; num_classes={num_classes}")
    else:
        labels = checked_labels(split[1], num_classes, f"{name}labels")
    if len(features) != len(labels):
        raise ValueError(f"{name}features and labels differ in number: {len(features)} rows, {len(labels)} labels")
    return features, labels


def check_rows_finite(rows: np.ndarray, name: str, first_row: int = 0) -> None:
    """Check that rows ``(N, D)`` are finite.

    Args:
        rows: The rows.
        name: Name in error messages.
        first_row: Number of the first row in error messages.

    Raises:
        ValueError: A row has a NaN or an infinity; the message names the first such row.
    """
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        values = np.unique(rows[row][~np.isfinite(rows[row])])[:3].tolist()
        raise ValueError(
            f"{name}: row {first_row + row} is not finite (holds {', '.join(map(str, values))}), one of "
            f"{int((~finite).sum())} such rows among {len(rows)} checked. Did the backbone overflow its dtype?"
        )


def check_classes_present(targets: np.ndarray, num_classes: int) -> None:
    """Check that there is something to learn about each class.

    Args:
        targets: ``(N,)`` classes, or ``(N, C)`` of 0 and 1.
        num_classes: Number of classes.

    Raises:
        ValueError: There are fewer than two classes, a class has no image, or a label is on every image.
    """
    if num_classes < 2 and targets.ndim == 1:
        raise ValueError(f"num_classes={num_classes}: a classifier needs at least two classes")
    counts = np.bincount(targets, minlength=num_classes) if targets.ndim == 1 else targets.sum(axis=0)
    absent = np.flatnonzero(counts == 0).tolist()
    if absent:
        raise ValueError(f"{len(absent)} of {num_classes} classes have no train image: {absent[:10]}")
    everywhere = np.flatnonzero(counts == len(targets)).tolist()
    if everywhere:
        raise ValueError(f"{len(everywhere)} of {num_classes} labels are on every train image: {everywhere[:10]}")
