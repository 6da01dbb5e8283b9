"""Resuming without unpickling."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.harmless import HARMLESS


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
        with torch.serialization.safe_globals(HARMLESS):
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
