"""What relation objectives share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_world_size
from torch import Tensor, nn


def unit_vectors(tokens: Tensor) -> Tensor:
    """Scale tokens ``(..., D)`` to length 1, in float32."""
    return F.normalize(tokens.float(), dim=-1)


def similarities(rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply ``(..., R, D)`` by ``(..., K, D)`` to ``(..., R, K)``, in float32 whatever the autocast."""
    device = "cpu" if rows.is_meta else rows.device.type  # there is no autocast for the meta device
    with torch.autocast(device, enabled=False):
        return rows @ columns.mT


def gather_ranks(tokens: Tensor) -> Tensor:
    """Join tokens ``(B, D)`` of all ranks in the order of ranks; no gradient flows through them."""
    if get_world_size() == 1 or tokens.is_meta:  # on the meta device, ranks have nothing to exchange
        return tokens
    return torch.cat(all_gather(tokens.detach().contiguous()))


def check_relation_loss(objective: Any, loss: nn.Module) -> None:
    """Refuse a loss that standardises each feature channel: similarities have no channels.

    Raises:
        ValueError: The loss does.
    """
    if hasattr(loss, "set_channels"):
        raise ValueError(
            f"{type(objective).__name__}.loss={type(loss).__name__} standardises each feature channel, but this "
            "objective compares similarities, which have no channels: write loss=dict(type='MSELoss') or "
            "loss=dict(type='RelationKLLoss')"
        )
