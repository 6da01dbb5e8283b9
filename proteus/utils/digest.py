"""Digests of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def weights_digest(state: Mapping[str, Tensor], description: str = "") -> str:
    """Compute the SHA-256 of a description and of the names, dtypes, shapes and bytes of weights.

    Files with the same tensors have the same digest, in whatever order they list them. Tensors on the meta device have
    no bytes.

    Args:
        state: Weights by name.
        description: Text to include, such as the architecture.

    Returns:
        The digest in hexadecimal.
    """
    digest = hashlib.sha256(description.encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.is_meta:
            continue
        # As bytes, since NumPy has no bfloat16.
        content: Any = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(content)
    return digest.hexdigest()
