"""DINOv3's linear head for depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.depth.dpt import norm_layer
from proteus.models.depth.head import DepthHead
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_whole
from proteus.utils.precision import no_autocast

_SIGLOSS = {"type": "SigLoss", "warm_up": True, "warm_iter": 100}
# So that no pixel has only zeros (AdaBins).
_LEAST_WEIGHT = 0.1


@MODELS.register_module()
class LinearDepthHead(DepthHead):
    """Patch tokens of one block -> batch norm, a 1x1 convolution to bins of depth, and their weighted mean.

    Bins are spaced evenly from ``min_depth`` to ``max_depth``. The weight of a bin is ``relu(output) + 0.1``, divided
    by the sum of all weights (docs/reproduction.md#nyu-depth-v2). The map has the size of the patch grid.

    Args:
        embed_dims: Width of the backbone's tokens.
        bins: Number of bins.
        norm: ``SyncBN``, ``BN`` or None, before the convolution.
        min_depth: Metres; depth of the first bin.
        max_depth: Metres; depth of the last bin.
        align_corners: How the map is brought to the size of the ground truth.
        loss_decode: Config of the loss, or of several that are added.

    Raises:
        ValueError: An argument makes no sense.
    """

    centers: Tensor

    def __init__(
        self,
        embed_dims: int,
        bins: int = 256,
        norm: str | None = "SyncBN",
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        align_corners: bool = False,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] = _SIGLOSS,
    ) -> None:
        super().__init__()
        check_whole("decode_head.embed_dims", embed_dims)
        check_whole("decode_head.bins", bins, least=2)
        if norm not in ("SyncBN", "BN", None):
            raise ValueError(f"decode_head.norm={norm!r}: write one of 'SyncBN', 'BN', None")
        if not 0 < min_depth < max_depth < float("inf"):
            raise ValueError(
                f"decode_head.min_depth={min_depth}, max_depth={max_depth}: metres, with 0 < min_depth < max_depth"
            )
        self.embed_dims, self.levels = embed_dims, 1
        self.min_depth, self.max_depth, self.align_corners = min_depth, max_depth, align_corners
        self.norm = norm_layer(norm, embed_dims)
        self.conv_depth = nn.Conv2d(embed_dims, bins, kernel_size=1)
        assert self.conv_depth.bias is not None
        nn.init.normal_(self.conv_depth.weight, std=0.01)
        nn.init.zeros_(self.conv_depth.bias)
        self.register_buffer("centers", torch.linspace(min_depth, max_depth, bins), persistent=False)
        self.add_losses(loss_decode)

    def forward(self, levels: Sequence[Features]) -> Tensor:
        """Return the depth ``(B, h, w)`` in metres, in float32, on the patch grid."""
        (level,) = levels
        if level.patches.device.type == "meta":
            return self._depth(level.maps)
        with no_autocast(level.patches.device):
            return self._depth(level.maps.to(self.conv_depth.weight.dtype))

    def _depth(self, maps: Tensor) -> Tensor:
        weights = F.relu(self.conv_depth(self.norm(maps))) + _LEAST_WEIGHT
        return torch.einsum("bkhw,k->bhw", weights, self.centers.to(weights.dtype)) / weights.sum(dim=1)
