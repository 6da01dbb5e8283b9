"""The linear head of DINOv2's segmentation protocol. It needs mmseg: a config names this file in ``custom_imports``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from proteus.registry import MODELS

try:
    from mmcv.cnn import build_norm_layer
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
except ImportError as error:
    raise ImportError(
        f"{error}; mmseg is needed: `pip install --no-deps onedl-mmcv onedl-mmsegmentation` and "
        "`pip install ftfy regex prettytable`"
    ) from error

_SYNC_BN = {"type": "SyncBN"}


@MODELS.register_module()
class BNHead(BaseDecodeHead):
    """Batch norm and one 1x1 convolution on the chosen maps, resized to one size and concatenated.

    DINOv2's linear protocol (its evaluation code): the batch norm standardises features of any scale, which the plain
    convolution of the released Proteus has to learn.

    Args:
        in_channels: Width of each map of ``in_index``.
        in_index: Positions of the maps among those that the backbone gives.
        norm_cfg: The batch norm.
        dropout_first: Drop channels before the batch norm, as DINOv3's linear protocol does, not after it.
        **head: As for mmseg's decode heads; ``channels`` is the sum of ``in_channels``.
    """

    def __init__(
        self,
        in_channels: list[int],
        in_index: list[int],
        norm_cfg: Mapping[str, Any] = _SYNC_BN,
        dropout_first: bool = False,
        **head: Any,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            in_index=in_index,
            channels=sum(in_channels),
            input_transform="resize_concat",
            norm_cfg=dict(norm_cfg),
            **head,
        )
        self.dropout_first = dropout_first
        self.bn = build_norm_layer(self.norm_cfg, self.channels)[1]

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Classify: maps ``(B, D_i, h_i, w_i)`` to logits ``(B, classes, h, w)`` of the first one's size."""
        maps = self._transform_inputs(inputs)
        if self.dropout_first and self.dropout is not None:
            return self.conv_seg(self.bn(self.dropout(maps)))
        return self.cls_seg(self.bn(maps))
