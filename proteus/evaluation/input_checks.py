"""What the judges of frozen features accept as features and labels, and what they refuse by name."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Array: TypeAlias = "np.ndarray | Tensor"


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number of Python or NumPy; a boolean is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def to_numpy(values: Array) -> np.ndarray:
    """As a numpy array, without a copy where it is one (a memory map stays on disk) or a tensor on the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)


def checked_labels(labels: Array, num_classes: int | None, name: str = "labels") -> np.ndarray:
    """Class indices as ``(N,)`` int64.

    Args:
        labels: ``(N,)`` integers.
        num_classes: Labels must lie below it; None: the largest label is the last class.
        name: What to call them in an error.

    Raises:
        ValueError: Not one integer an image, none at all, or one out of range.
    """
    found = to_numpy(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer) or len(found) == 0:
        raise ValueError(f"{name} should be class indices, integers (N,), N > 0; found {found.dtype} {found.shape}")
    wrong = (found < 0) if num_classes is None else (found < 0) | (found >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        end = "" if num_classes is None else f" and {num_classes - 1}"
        raise ValueError(
            f"{name}[{row}] is {found[row]}; labels lie {'above -1' if not end else 'between 0' + end}: "
            "classes are numbered from 0, and num_classes counts them"
        )
    return found.astype(np.int64)


def checked_marks(labels: Array, name: str = "labels") -> np.ndarray:
    """Marks of a set with several classes an image as ``(N, C)`` int64 of 0 and 1.

    Args:
        labels: ``(N, C)``, numbers or booleans.
        name: What to call them in an error.

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
            "(PASCAL's -1 and 'difficult' 0 are both 0 here)"
        )
    return found.astype(np.int64)


def checked_features(features: Array, name: str = "features") -> np.ndarray:
    """Features as ``(N, D)`` float64, in memory.

    Args:
        features: ``(N, D)``.
        name: What to call them in an error.

    Raises:
        ValueError: Another shape, no rows, or a value that is NaN or infinite.
    """
    found = to_numpy(features)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"{name} should be (N, D), one row an image; found {found.shape}")
    found = np.asarray(found, dtype=np.float64)
    refuse_not_finite(found, name)
    return found


def refuse_not_finite(rows: np.ndarray, name: str, first_row: int = 0) -> None:
    """Raise a ValueError that names the first row ``(D,)`` with a NaN or an infinity; rows count from ``first_row``."""
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        values = np.unique(rows[row][~np.isfinite(rows[row])])[:3].tolist()
        raise ValueError(
            f"{name}: row {first_row + row} is not finite (holds {', '.join(map(str, values))}); "
            f"{int((~finite).sum())} of the {len(rows)} rows looked at are not. Did the backbone overflow its dtype?"
        )
