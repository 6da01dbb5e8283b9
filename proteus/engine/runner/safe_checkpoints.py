"""Resuming without unpickling."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from proteus.checkpoints import CheckpointError

# NumPy 2 moved it; checkpoints name either place.
_multiarray: Any = (getattr(np, "_core", None) or np.core).multiarray


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled ``HistoryBuffer`` asks for its own statistics and nothing else."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"GLOBAL getattr is allowed for the statistics of HistoryBuffer, not for {name!r}")
    return getattr(owner, name)


# What MMEngine's message hub puts into a training checkpoint beside tensors and plain containers.
_ALLOWED = [
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
]


def use_safe_checkpoints() -> None:
    """Make MMEngine read local checkpoints as data alone, from now on in this process.

    Official MMEngine 0.10 unpickles them, and its maintained fork falls back to unpickling what it cannot read safely.
    """
    CheckpointLoader.register_scheme(prefixes="", loader=load_checkpoint, force=True)


def load_checkpoint(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a training checkpoint.

    Raises:
        CheckpointError: It is missing, damaged, or holds anything that would run code.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise CheckpointError(f"checkpoint not found: {path}")
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise CheckpointError(f"{path} is damaged or no checkpoint; resume from an earlier one") from error
        raise CheckpointError(
            f"{path} holds more than a Proteus checkpoint does, and opening it could run code, so it was not opened "
            f"(it asks for {asked[1]})"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error}); resume from an earlier one") from error
