"""DPT's head for depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.depth.dpt import READOUTS, DPTDecoder
from proteus.models.depth.head import DepthHead
from proteus.models.depth.losses import SigLoss
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number, check_whole
from proteus.utils.precision import no_autocast

_SILOG = {"type": "SiLogLoss"}


@MODELS.register_module()
class DPTDepthHead(DepthHead):
    """Tokens of four blocks, each with its cls token -> a depth map in metres (docs/reproduction.md#nyu-depth-v2).

    Two outputs are known. ``linear`` is the released Proteus': dropout of channels and one 1x1 convolution. Its
    values are the depth, at any sign. ``conv`` is that of the Monocular-Depth-Estimation-Toolbox (its
    ``HeadDepth``), and of DPT itself: 3x3, upsampling by two, 3x3, ReLU, 1x1, then ReLU and ``min_depth`` on top, so
    that every depth is positive. The last convolution runs in float32: bfloat16 would leave steps of centimetres.

    Args:
        embed_dims: Width of the backbone's tokens.
        post_process_channels: Width of the map made of each block, the first block first: four numbers.
        channels: Width of the decoder.
        readout_type: What becomes of the cls tokens: ``project``, ``add`` or ``ignore``.
        norm: ``SyncBN``, ``BN`` or None, in the residual units and before the output.
        output: ``linear`` or ``conv``.
        dropout_ratio: Of whole channels before a ``linear`` output.
        initial_depth: Metres that training starts from: the last bias. At 0, as released, about half of the pixels
            start negative, where :class:`SiLogLoss` sees nothing but the least depth, and hundreds of iterations go by
            before the depth has the right scale; a typical depth (2.5 indoors) suits short runs.
        min_depth: Metres; the least depth that an output of ``conv`` gives, and the lower end of the clamp.
        max_depth: Metres; predictions (not those that are trained on) are clamped to [min_depth, max_depth]. None:
            they are left as they are.
        align_corners: How the map is brought to the size of the ground truth.
        loss_decode: Config of the loss, or of several that are added.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        embed_dims: int,
        post_process_channels: Sequence[int],
        channels: int = 256,
        readout_type: str = "project",
        norm: str | None = "SyncBN",
        output: str = "linear",
        dropout_ratio: float = 0.1,
        initial_depth: float = 0.0,
        min_depth: float = 1e-3,
        max_depth: float | None = None,
        align_corners: bool = False,
        loss_decode: Mapping[str, Any] | Sequence[Mapping[str, Any]] = _SILOG,
    ) -> None:
        super().__init__()
        check_whole("decode_head.embed_dims", embed_dims)
        check_whole("decode_head.channels", channels, least=2)
        check_number("decode_head.dropout_ratio", dropout_ratio, 0, 1)
        check_number("decode_head.initial_depth", initial_depth)
        _check(readout_type, norm, output, post_process_channels, min_depth, max_depth)
        self.embed_dims = embed_dims
        self.levels = len(post_process_channels)
        self.output, self.align_corners = output, align_corners
        self.min_depth, self.max_depth = min_depth, max_depth
        self.decoder = DPTDecoder(embed_dims, post_process_channels, channels, readout_type, norm)
        if output == "linear":
            self.dropout = nn.Dropout2d(dropout_ratio)
            self.conv_depth = nn.Conv2d(channels, 1, kernel_size=1)
            nn.init.normal_(self.conv_depth.weight, std=0.01)
        else:
            self.widen = nn.Conv2d(channels, channels // 2, kernel_size=3, padding=1)
            self.narrow = nn.Conv2d(channels // 2, 32, kernel_size=3, padding=1)
            self.conv_depth = nn.Conv2d(32, 1, kernel_size=1)
        assert self.conv_depth.bias is not None
        if initial_depth or output == "linear":
            nn.init.constant_(self.conv_depth.bias, initial_depth)
        self.add_losses(loss_decode)
        takes_logarithm = any(isinstance(loss, SigLoss) for loss in self.loss_decode.values())
        if output == "linear" and initial_depth <= 0 and takes_logarithm:
            raise ValueError(
                f"decode_head.loss_decode: SigLoss takes the logarithm of depths, and output='linear' with "
                f"initial_depth={initial_depth} starts with negative ones; write output='conv' or type='SiLogLoss'"
            )

    def forward(self, levels: Sequence[Features]) -> Tensor:
        """Return the depth ``(B, h', w')`` in metres, in float32, at 8 (``linear``) or 16 times the patch grid."""
        maps = self.decoder(levels)
        if self.output == "conv":
            maps = F.interpolate(self.widen(maps), scale_factor=2, mode="bilinear", align_corners=True)
            maps = F.relu(self.narrow(maps))
        else:
            maps = self.dropout(maps)
        if maps.device.type == "meta":
            return self._depth(maps)
        with no_autocast(maps.device):
            return self._depth(maps.to(self.conv_depth.weight.dtype))

    def _depth(self, maps: Tensor) -> Tensor:
        depth = self.conv_depth(maps)[:, 0]
        return depth if self.output == "linear" else F.relu(depth) + self.min_depth


def _check(
    readout_type: str,
    norm: str | None,
    output: str,
    post_process_channels: Sequence[int],
    min_depth: float,
    max_depth: float | None,
) -> None:
    choices = {
        "readout_type": (readout_type, READOUTS),
        "norm": (norm, ("SyncBN", "BN", None)),
        "output": (output, ("linear", "conv")),
    }
    for key, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"decode_head.{key}={value!r}: write one of {', '.join(map(repr, known))}")
    check_number("decode_head.min_depth", min_depth)
    if max_depth is not None:
        check_number("decode_head.max_depth", max_depth)
    if isinstance(post_process_channels, str) or not isinstance(post_process_channels, Sequence):
        raise ValueError(f"decode_head.post_process_channels={post_process_channels!r}: write four widths")
    for width in post_process_channels:
        check_whole("decode_head.post_process_channels: one width", width)
    if len(post_process_channels) != 4:
        raise ValueError(
            f"decode_head.post_process_channels={list(post_process_channels)}: DPT joins four blocks; write four widths"
        )
    if min_depth <= 0 or (max_depth is not None and max_depth <= min_depth):
        raise ValueError(
            f"decode_head.min_depth={min_depth}, max_depth={max_depth}: metres, with 0 < min_depth < max_depth"
        )
