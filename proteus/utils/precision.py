"""Precision of forward passes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether ``auto`` precision means bfloat16 on a device: on GPUs that support it."""
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()


def no_autocast(device: str | torch.device) -> AbstractContextManager[Any]:
    """Return a context that switches a surrounding autocast off; the meta device has none."""
    kind = torch.device(device).type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
