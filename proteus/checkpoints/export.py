"""Write a backbone in a format that other tools load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from proteus.checkpoints.errors import CheckpointError
from proteus.checkpoints.parts import check_values
from proteus.compat import storage_key
from proteus.utils import atomic_path


def export_backbone(state: Mapping[str, Tensor], path: str | Path, description: Mapping[str, Any]) -> Path:
    """Write a backbone's weights as safetensors with a description in the header.

    Args:
        state: Weights with timm's names.
        path: File to write; its folder is made.
        description: Facts to rebuild the model and normalise its images (architecture, arguments, mean, std, teacher),
            stored as JSON under ``proteus`` in the metadata of the file.

    Returns:
        ``path``.

    Raises:
        CheckpointError: A tensor holds NaN or infinity; nothing is written.
        FullDiskError: The disk is full; an existing file is unchanged.
    """
    path = Path(path)
    check_written(state, path)
    text = json.dumps(dict(description))
    tensors: dict[str, Tensor] = {}
    places = set()
    for key, value in state.items():
        tensor = value.detach().cpu().contiguous()
        # A layer with several names (CoaT) is written under each, as the format has no tensors that share memory.
        tensors[key] = tensor.clone() if storage_key(tensor) in places else tensor
        places.add(storage_key(tensor))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", "proteus": text})
    return path


def check_written(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that weights are finite before they are written.

    Raises:
        CheckpointError: A tensor is not finite; the message names it and the file.
    """
    try:
        check_values(state, "the weights")
    except CheckpointError as error:
        raise CheckpointError(f"{path} is not written: {error}") from error
