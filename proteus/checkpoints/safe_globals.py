"""Types other than tensors and plain containers that a training checkpoint may safely hold.

NumPy's unpickling is not safe: a type description in a file can declare bytes to be pointers. Here arrays and NumPy
scalars are rebuilt from numeric types only.
"""

from __future__ import annotations

import pickle
import re
from argparse import Namespace
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

_NUMERIC = re.compile(r"[<>|=]?([biuf][1248]|\?)")


class _Type:
    """Stand-in for ``numpy.dtype``: a numeric type in either byte order."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if not (isinstance(code, str) and _NUMERIC.fullmatch(code)):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype is allowed for numbers, not for {str(code)[:40]!r}")
        self.type = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, ...); the rest describes fields and flags, which numeric types do not have.
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in ("<", ">"):
            self.type = self.type.newbyteorder(order)


class _Array(np.ndarray):
    """Stand-in for ``numpy.ndarray`` while it is unpickled; pickled again it is an ordinary array."""

    def __new__(cls, *_: Any) -> _Array:
        return super().__new__(cls, (0,), np.float64)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        if not (isinstance(kind, _Type) and isinstance(raw, bytes)):
            raise pickle.UnpicklingError("GLOBAL numpy.ndarray is allowed for numbers, not for objects")
        plain: Any = (1, tuple(map(int, shape)), kind.type, bool(fortran), raw)
        super().__setstate__(plain)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(*_: Any) -> _Array:
    """Stand-in for the function that creates an empty array in a pickle."""
    return _Array()


def _scalar(kind: Any, raw: Any) -> Any:
    """Stand-in for the function that creates a NumPy scalar in a pickle."""
    if not (isinstance(kind, _Type) and isinstance(raw, bytes) and len(raw) == kind.type.itemsize):
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray.scalar is allowed for numbers alone")
    return np.frombuffer(raw, kind.type)[0]


def _statistic(owner: Any, name: str) -> Any:
    """Stand-in for ``getattr``, which a pickled ``HistoryBuffer`` uses for its statistics; returns nothing else."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"GLOBAL getattr is allowed for the statistics of HistoryBuffer, not for {name!r}")
    return getattr(owner, name)


# For torch.serialization.safe_globals.
HARMLESS: list[Any] = [
    # MMEngine's message hub. NumPy 2 moved the module; checkpoints use either name.
    HistoryBuffer,
    (_statistic, "builtins.getattr"),
    (_Array, "numpy.ndarray"),
    (_Type, "numpy.dtype"),
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    # The command line, which scripts derived from DeiT (such as Proteus' release) save along with the weights.
    Namespace,
]
