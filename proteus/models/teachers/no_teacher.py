"""The teacher of a run that has none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from proteus.models.teachers.teacher import Teacher
from proteus.registry import MODELS
from proteus.structures import Features


@MODELS.register_module()
class NoTeacher(Teacher):
    """Stands where a supervised run has no teacher (paper, first rows of tables 11 and 12): features of width 0.

    The distiller refuses it where an objective needs one.

    Args:
        input_mean: Not used; the distiller fills it in.
        input_std: Not used; the distiller fills it in.
    """

    def __init__(self, input_mean: Sequence[float] | None = None, input_std: Sequence[float] | None = None) -> None:
        nn.Module.__init__(self)
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.classifier = None
        self.img_size = None

    @property
    def embed_dim(self) -> int:
        """Width of the tokens: 0."""
        return 0

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        """No patches."""
        return (0, 0)

    def to_device(self, device: torch.device) -> None:
        """Move to ``device``."""
        self.to(device)

    def forward(self, images: Tensor) -> Features:
        """Return features of width 0 for ``(B, 3, H, W)``."""
        return Features(images.new_zeros(len(images), 0), images.new_zeros(len(images), 0, 0), (0, 0))

    def _levels(self, images: Tensor, count: int, hidden_states: bool = False) -> list[Features]:
        return [self(images)]
