"""Writing a backbone that other people's tools can load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def export_backbone(state: Mapping[str, Tensor], path: str | Path, description: Mapping[str, Any]) -> Path:
    """Write a backbone's weights as safetensors, describing themselves.

    Args:
        state: Weights with timm's names.
        path: File to write; its folder is made.
        description: What a user needs to rebuild and feed the model (architecture, arguments, mean, std, teacher);
            stored as JSON text under ``proteus`` in the file's metadata.

    Returns:
        ``path``, whole: the file appears under its name only once it is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(tensors, partial, metadata={"format": "pt", "proteus": json.dumps(dict(description))})
    partial.replace(path)
    return path
