"""From a student's cls token to class scores."""

from __future__ import annotations

from torch import nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_whole


@MODELS.register_module()
class ClassHead(nn.Linear):
    """A linear classifier that starts as DeiT's does: truncated normal 0.02, bias 0.

    Args:
        in_dim: Width of the student's tokens; the distiller fills it in.
        out_dim: Number of classes; the objective fills it in.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(check_whole("in_dim", in_dim), check_whole("out_dim", out_dim))
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)
