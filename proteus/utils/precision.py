"""Precision of forward passes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def has_bfloat16(device: str | torch.device) -> bool:
    """Whether ``auto`` precision means bfloat16 on a device: on GPUs that compute in it.

    Those before Ampere (V100, T4, RTX 20) only emulate it.
    """
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies matrices in bfloat16, by AMX or AVX512-BF16; False where torch cannot be asked.

    With AVX512-BF16 a frozen ViT-S/14 took 0.57 times as long as in float32 (``docs/speed.md``), and training under
    autocast was not faster. AMX is not measured.
    """
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def no_autocast(device: str | torch.device) -> AbstractContextManager[Any]:
    """Return a context that switches a surrounding autocast off; the meta device has none."""
    kind = torch.device(device).type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
