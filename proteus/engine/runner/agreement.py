"""Share a flag or a number among all ranks."""

from __future__ import annotations

import torch
from mmengine.dist import get_backend, get_world_size
from torch import distributed as dist


def any_rank(seen: bool) -> bool:
    """Whether ``seen`` is true on any rank; every rank must call this at the same iteration.

    It sends one number, and waits for the device where the processes exchange data through it.
    """
    return bool(largest(int(seen)))


def largest(value: int) -> int:
    """Return the largest value of all ranks."""
    if get_world_size() == 1:
        return value
    device = "cuda" if get_backend() == "nccl" else "cpu"
    number = torch.tensor(value, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return int(number)
