"""The projection between student and teacher width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_whole

LAYERS = ("norm", "linear", "gelu")
"""Names of layers."""


@MODELS.register_module()
class DistillHead(nn.Sequential):
    """``LayerNorm`` and a linear layer, the projector of the paper (eq. 4; docs/reproduction.md#projection-heads).

    Args:
        in_dim: Width of the student's tokens; the distiller fills it in.
        out_dim: Width of the teacher's tokens; the distiller fills it in.
        layers: What it consists of, in order: ``norm``, ``gelu``, and ``linear`` once, which changes the width
            (the paper's table 20 compares ``('linear', 'gelu')`` and ``('gelu', 'linear')`` with the default).

    Raises:
        ValueError: ``layers`` names another layer, or not exactly one ``linear``.
    """

    def __init__(self, in_dim: int, out_dim: int, layers: Sequence[str] = ("norm", "linear")) -> None:
        if isinstance(layers, str) or list(layers).count("linear") != 1 or not set(layers) <= set(LAYERS):
            raise ValueError(f"DistillHead.layers={layers!r}: write a list of {', '.join(LAYERS)}, with 'linear' once")
        super().__init__()
        width = self.in_dim = check_whole("in_dim", in_dim)
        self.layers = tuple(layers)
        check_whole("out_dim", out_dim, least=0)  # 0: without a teacher, which the distiller names
        for layer in layers:
            if layer == "norm":
                self.append(nn.LayerNorm(width))
            elif layer == "gelu":
                self.append(nn.GELU())
            else:
                self.append(nn.Linear(width, out_dim))
                width = out_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(..., in_dim)`` to ``(..., out_dim)``."""
        return super().forward(tokens)
