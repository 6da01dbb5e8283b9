"""The parts of DPT that come before its output (Ranftl et al. 2021, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.structures import Features

READOUTS = ("project", "add", "ignore")


class Reassemble(nn.Module):
    """Tokens of one block -> a map of another width, at 4, 2, 1 or 1/2 times the patch grid.

    Args:
        embed_dims: Width of the tokens, ``D``.
        channels: Width of the map, ``C``.
        scale: 4, 2, 1 or 0.5.
        readout_type: What becomes of the cls token: ``project`` it with each patch token (a linear layer and GELU),
            ``add`` it to each, or ``ignore`` it.
    """

    def __init__(self, embed_dims: int, channels: int, scale: float, readout_type: str = "project") -> None:
        super().__init__()
        self.readout_type = readout_type
        if readout_type == "project":
            self.readout = nn.Sequential(nn.Linear(2 * embed_dims, embed_dims), nn.GELU())
        self.project = _initialised(nn.Conv2d(embed_dims, channels, kernel_size=1))
        self.resize: nn.Module = nn.Identity()
        if scale > 1:
            self.resize = nn.ConvTranspose2d(channels, channels, kernel_size=int(scale), stride=int(scale))
        elif scale < 1:
            self.resize = nn.Conv2d(channels, channels, kernel_size=3, stride=round(1 / scale), padding=1)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, C, h', w')`` for features of the grid ``(h, w)``; halving rounds up."""
        tokens, cls = features.patches, features.cls.unsqueeze(1)
        if self.readout_type == "project":
            tokens = self.readout(torch.cat([tokens, cls.expand_as(tokens)], dim=-1))
        elif self.readout_type == "add":
            tokens = tokens + cls
        return self.resize(self.project(Features(features.cls, tokens, features.grid).maps))


class ResidualUnit(nn.Module):
    """Pre-activated residual unit: twice ReLU, 3x3 convolution without bias, norm.

    Args:
        channels: Width.
        norm: See :func:`norm_layer`.
    """

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.conv1 = _initialised(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))
        self.norm1 = norm_layer(norm, channels)
        self.conv2 = _initialised(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))
        self.norm2 = norm_layer(norm, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(B, C, h, w)`` to the same shape."""
        inner = self.norm1(self.conv1(F.relu(maps)))
        return maps + self.norm2(self.conv2(F.relu(inner)))


class FusionBlock(nn.Module):
    """Join the map so far with that of a finer level, and double its size.

    Args:
        channels: Width.
        norm: See :func:`norm_layer`.
        first: There is nothing to join yet.
    """

    def __init__(self, channels: int, norm: str | None, first: bool = False) -> None:
        super().__init__()
        self.skip = None if first else ResidualUnit(channels, norm)
        self.unit = ResidualUnit(channels, norm)
        self.project = _initialised(nn.Conv2d(channels, channels, kernel_size=1))

    def forward(self, maps: Tensor, finer: Tensor | None = None) -> Tensor:
        """Return ``(B, C, 2 h, 2 w)`` for ``maps`` ``(B, C, h, w)``; ``finer`` is resized to it where they differ."""
        if self.skip is not None and finer is not None:
            if finer.shape != maps.shape:
                finer = F.interpolate(finer, size=maps.shape[-2:], mode="bilinear", align_corners=False)
            maps = maps + self.skip(finer)
        maps = F.interpolate(self.unit(maps), scale_factor=2, mode="bilinear", align_corners=True)
        return self.project(maps)


class DPTDecoder(nn.Module):
    """Tokens of four blocks -> one map at eight times the patch grid.

    Args:
        embed_dims: Width of the tokens.
        post_process_channels: Width of the map made of each block, the first block first.
        channels: Width of the result, ``C``.
        readout_type: See :class:`Reassemble`.
        norm: See :func:`norm_layer`.
    """

    def __init__(
        self,
        embed_dims: int,
        post_process_channels: Sequence[int],
        channels: int = 256,
        readout_type: str = "project",
        norm: str | None = "SyncBN",
    ) -> None:
        super().__init__()
        self.reassemble = nn.ModuleList(
            Reassemble(embed_dims, width, scale, readout_type)
            for width, scale in zip(post_process_channels, (4, 2, 1, 0.5), strict=True)
        )
        self.convs = nn.ModuleList(
            _initialised(nn.Conv2d(width, channels, kernel_size=3, padding=1, bias=False))
            for width in post_process_channels
        )
        self.fusion = nn.ModuleList(FusionBlock(channels, norm, first=index == 0) for index in range(4))
        self.project = nn.Sequential(
            _initialised(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=norm is None)),
            norm_layer(norm, channels),
            nn.ReLU(),
        )

    def forward(self, levels: Sequence[Features]) -> Tensor:
        """Return ``(B, C, 8 h, 8 w)`` for four levels of the grid ``(h, w)``; of an odd grid ``(8 h + 8, 8 w + 8)``."""
        maps = [conv(part(level)) for conv, part, level in zip(self.convs, self.reassemble, levels, strict=True)]
        joined = self.fusion[0](maps[-1])
        for block, finer in zip(self.fusion[1:], reversed(maps[:-1]), strict=True):
            joined = block(joined, finer)
        return self.project(joined)


def norm_layer(norm: str | None, channels: int) -> nn.Module:
    """Make a norm of maps.

    Args:
        norm: ``SyncBN`` (batch norm over all GPUs; on the CPU, over one process, since torch synchronises on GPUs
            only; the weights have the same names), ``BN`` or None.
        channels: Width.
    """
    if norm is None:
        return nn.Identity()
    if norm == "SyncBN" and torch.cuda.is_available():
        return nn.SyncBatchNorm(channels)
    return nn.BatchNorm2d(channels)


def _initialised(conv: nn.Conv2d) -> nn.Conv2d:
    # As OpenMMLab's convolutions start, which the recipes were tuned with.
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
