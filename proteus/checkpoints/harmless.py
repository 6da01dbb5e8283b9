"""What a training checkpoint may hold beside tensors and plain containers, and still be data alone."""

from __future__ import annotations

import pickle
from argparse import Namespace
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

# NumPy 2 moved it; checkpoints name either place.
_multiarray: Any = (getattr(np, "_core", None) or np.core).multiarray


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` asks for its statistics; give nothing else."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"GLOBAL getattr is allowed for the statistics of HistoryBuffer, not for {name!r}")
    return getattr(owner, name)


# For torch.serialization.safe_globals.
HARMLESS: list[Any] = [
    # MMEngine's message hub.
    HistoryBuffer,
    (_statistic, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    (_multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (_multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    (_multiarray.scalar, "numpy.core.multiarray.scalar"),
    (_multiarray.scalar, "numpy._core.multiarray.scalar"),
    # The command line, which the scripts that descend from DeiT (Proteus' release among them) put beside the weights.
    Namespace,
]
