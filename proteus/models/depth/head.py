"""What depth heads share: the size of the prediction, its limits, and the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.structures import Features


class DepthHead(nn.Module):
    """Base class of heads from the tokens of some blocks to a depth map ``(B, h', w')`` in metres.

    Attributes:
        embed_dims: Width of the backbone's tokens.
        levels: Number of blocks that the head reads.
        min_depth: Metres; lower end of the clamp.
        max_depth: Metres; predictions are clamped to [min_depth, max_depth] if it is set.
        align_corners: How the map is brought to the size of the ground truth.
        loss_decode: Losses by name.
    """

    embed_dims: int
    levels: int
    min_depth: float
    max_depth: float | None
    align_corners: bool
    loss_decode: nn.ModuleDict

    def add_losses(self, loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Build the losses.

        Raises:
            ValueError: A loss is missing, or given twice.
        """
        configs = [loss_decode] if isinstance(loss_decode, Mapping) else list(loss_decode)
        losses = [MODELS.build(dict(config)) for config in configs]
        self.loss_decode = nn.ModuleDict({loss.name: loss for loss in losses})
        if not losses or len(self.loss_decode) < len(losses):
            raise ValueError("decode_head.loss_decode: write at least one loss, and none twice")

    def predict(self, levels: Sequence[Features], size: tuple[int, int]) -> Tensor:
        """Return the depth at ``size`` ``(H, W)``, clamped where there is a ``max_depth``: ``(B, H, W)``, metres."""
        depth = self(levels)
        if self.max_depth is not None:
            depth = depth.clamp(self.min_depth, self.max_depth)
        return self.resized(depth, size)

    def losses(self, levels: Sequence[Features], target: Tensor) -> dict[str, Tensor]:
        """Compare with the ground truth.

        Args:
            levels: Of each tapped block, the first first.
            target: ``(B, H, W)``, metres; 0 where it is not known.

        Returns:
            ``loss_<name>`` of each loss, weighted.
        """
        depth = self.resized(self(levels), (target.shape[-2], target.shape[-1]))
        return {f"loss_{name}": loss(depth, target.float()) for name, loss in self.loss_decode.items()}

    def resized(self, depth: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring depth ``(B, h, w)`` to another size bilinearly."""
        if depth.shape[-2:] == size:
            return depth
        return F.interpolate(depth[:, None], size=size, mode="bilinear", align_corners=self.align_corners)[:, 0]
