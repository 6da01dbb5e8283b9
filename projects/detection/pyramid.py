"""A backbone with dense maps as the backbone of torchvision's detectors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from proteus.models.backbones import DenseTimm

VIT_SCALES = (2.0, 1.0, 0.5, 0.25)
"""Size of each level of the pyramid, relative to a ViT's grid: strides of 7 to 56 px for patches of 14 px."""


class DetectorBackbone(nn.Module):
    """Maps of a backbone, brought to several sizes and one width by torchvision's feature pyramid.

    The maps of a ViT are all of one size: the first is enlarged and the last ones are reduced, as in UperNet's neck and
    in ViTDet's pyramid (Li et al. 2022, arXiv:2203.16527). The maps of a CNN or hierarchical transformer stay as they
    are.

    Args:
        backbone: A ``DenseViT`` with four ``out_indices``, or a ``DenseTimm``.
        out_channels: Width of the levels.

    Attributes:
        strides: Pixels of the image per cell of each level; the sides of an image have to be multiples of the last.

    Raises:
        ValueError: The strides would not be whole pixels, which torchvision's anchors need, or there are too few maps.
    """

    def __init__(self, backbone: Any, out_channels: int = 256) -> None:
        super().__init__()
        self.backbone = backbone
        self.out_channels = out_channels
        channels = list(backbone.channels)
        reductions = _reductions(backbone)
        self.rescale = nn.ModuleList(nn.Identity() for _ in channels)
        if len(set(reductions)) == 1:
            if len(channels) != len(VIT_SCALES) or reductions[0] % 2:
                raise ValueError(
                    f"model.backbone.out_indices={tuple(backbone.out_indices)}, patches of {reductions[0]} px: the "
                    f"pyramid takes {len(VIT_SCALES)} blocks of a ViT with patches of an even number of pixels"
                )
            self.rescale = nn.ModuleList(
                _resize(width, scale) for width, scale in zip(channels, VIT_SCALES, strict=True)
            )
            reductions = [int(side / scale) for side, scale in zip(reductions, VIT_SCALES, strict=True)]
        self.strides = tuple(reductions)
        self.pyramid = FeaturePyramidNetwork(channels, out_channels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the levels ``(B, out_channels, H / stride, W / stride)`` of images ``(B, 3, H, W)``, finest first."""
        maps = [resize(each) for resize, each in zip(self.rescale, self.backbone(images), strict=True)]
        return self.pyramid(OrderedDict((str(number), each) for number, each in enumerate(maps)))


def _reductions(backbone: Any) -> list[int]:
    if isinstance(backbone, DenseTimm):
        info = backbone.model.feature_info
        return [int(info[index]["reduction"]) for index in backbone.out_indices]
    return [backbone.patch_size for _ in backbone.out_indices]


def _resize(width: int, scale: float) -> nn.Module:
    if scale == 1:
        return nn.Identity()
    if scale > 1:
        return nn.ConvTranspose2d(width, width, kernel_size=int(scale), stride=int(scale))
    return nn.MaxPool2d(int(1 / scale))
