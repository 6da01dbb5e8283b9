"""float64 on devices that lack it, such as MPS."""

from __future__ import annotations

import torch
from torch import Tensor


def float64_device(device: str | torch.device) -> torch.device:
    """Return the device if it has float64, as CPUs and CUDA's GPUs have, or else the CPU."""
    wanted = torch.device(device)
    return wanted if wanted.type in ("cpu", "cuda") else torch.device("cpu")


def in_float64(values: Tensor) -> Tensor:
    """Convert to float64, on the CPU if the device lacks it."""
    return values.to(float64_device(values.device)).double()
