"""The projection between student and teacher width."""

from __future__ import annotations

from torch import Tensor, nn

from proteus.registry import MODELS


@MODELS.register_module()
class DistillHead(nn.Sequential):
    """``LayerNorm`` and a linear layer, the projector of the paper (eq. 4; protocols A.6: eps 1e-5, torch's init).

    Args:
        in_dim: Width of the student's tokens; the distiller fills it in.
        out_dim: Width of the teacher's tokens; the distiller fills it in.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(nn.LayerNorm(in_dim), nn.Linear(in_dim, out_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(..., in_dim)`` to ``(..., out_dim)``."""
        return super().forward(tokens)
