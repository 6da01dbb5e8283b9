"""The hidden units of plain and gated MLPs, as layers that read the stream and a function of what they read."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import GluMlp, Mlp, SwiGLU
from torch import Tensor, nn

from proteus.models.initialization.slicing.layers import fold_constants

Branch = tuple[Tensor, Tensor | None]
"""Weight ``(H, D)`` and bias ``(H,)``."""


def kind_of(mlp: nn.Module) -> str:
    """Return ``plain``, ``gated``, or an empty string for an MLP that cannot be sliced."""
    if not isinstance(getattr(mlp, "norm", None), nn.Identity):
        return ""
    if type(mlp) is Mlp:
        return "plain"
    return "gated" if type(mlp) in (GluMlp, SwiGLU) else ""


def unit_count(mlp: Any) -> int:
    """Return the number of hidden units ``H``, which the last layer reads."""
    count: int = mlp.fc2.in_features
    return count


def branches_of(mlp: Any) -> list[Branch]:
    """Return the layers that make the hidden units: one, or those of the gate and of the value."""
    if isinstance(mlp, SwiGLU):
        return [(layer.weight, layer.bias) for layer in (mlp.fc1_g, mlp.fc1_x)]
    if isinstance(mlp, GluMlp):
        biases = [None, None] if mlp.fc1.bias is None else mlp.fc1.bias.chunk(2)
        halves = list(zip(mlp.fc1.weight.chunk(2), biases, strict=True))
        return halves[::-1] if mlp.gate_last else halves
    return [(mlp.fc1.weight, mlp.fc1.bias)]


def write_branches(mlp: Any, branches: list[tuple[Tensor, Tensor]], norm: nn.LayerNorm) -> None:
    """Set the layers that make the hidden units, and read what ``norm`` gives."""
    for (weight, bias), (new_weight, new_bias) in zip(branches_of(mlp), branches, strict=True):
        if bias is None:
            new_weight = fold_constants(norm, new_weight, new_bias)
        else:
            bias.copy_(new_bias)
        weight.copy_(new_weight)  # a view of the layer's


def activate(mlp: Any, read: list[Tensor]) -> Tensor:
    """Return the hidden units ``(..., H)`` for what the branches read."""
    units: Tensor = mlp.act(read[0])
    return units * read[1] if len(read) > 1 else units


def as_gated(branch: tuple[Tensor, Tensor], mlp: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return gate and value of a gated MLP for the units of a plain one: each value is 1, and the gate does the rest.

    SiLU of 1.702 x is 1.702 times QuickGELU of x, which is nearly GELU.
    """
    weight, bias = branch
    if isinstance(mlp.act, nn.Sigmoid):
        return [(1.702 * weight, 1.702 * bias), (weight, bias)]
    factor = 1.702 if isinstance(mlp.act, nn.SiLU) else 1.0
    return [(factor * weight, factor * bias), (torch.zeros_like(weight), torch.ones_like(bias))]
