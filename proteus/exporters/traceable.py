"""Backbones as modules that exporters trace: images -> ``(cls, patches)``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.exporters.model import ExportModel
from proteus.models.backbones import AsTuple, ViT


def traceable(model: ExportModel, dynamic_size: bool = False) -> nn.Module:
    """Wrap a backbone for an exporter.

    Args:
        model: The model.
        dynamic_size: Take images of any size. A ViT's position embedding is then resampled to the grid of the images
            by a plain bicubic resize, as ``transformers`` does it (see docs/use_student.md#image-sizes).
    """
    if dynamic_size and isinstance(model.backbone, ViT):
        return AnySizeViT(model.backbone).eval()
    return AsTuple(model.backbone)


def other_size(model: ExportModel) -> tuple[int, int]:
    """Return a larger size ``(H, W)``, of other proportions, to check a file with dynamic size at."""
    step = getattr(model.backbone, "patch_size", None) or 32  # a CNN has None
    return model.img_size + 2 * step, model.img_size + step


class AnySizeViT(nn.Module):
    """A ViT without Python branches on the size of the images.

    Args:
        backbone: The ViT.
    """

    def __init__(self, backbone: ViT) -> None:
        super().__init__()
        self.backbone = backbone
        vit: Any = backbone.vit
        rows, columns = vit.patch_embed.grid_size
        prefix = vit.pos_embed.shape[1] - rows * columns
        positions = vit.pos_embed.detach()
        self.register_buffer("prefix_positions", positions[:, :prefix].clone())
        self.register_buffer(
            "grid_positions", positions[:, prefix:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2).clone()
        )

    prefix_positions: Tensor
    grid_positions: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images ``(B, 3, H, W)`` of whole patches; returns ``(B, D)`` and ``(B, h * w, D)``."""
        vit: Any = self.backbone.vit
        maps = vit.patch_embed.proj(images)
        patches = vit.patch_embed.norm(maps.flatten(2).transpose(1, 2))
        positions = F.interpolate(self.grid_positions, size=maps.shape[2:], mode="bicubic")
        patches = patches + positions.flatten(2).transpose(1, 2)
        prefix = vit.cls_token
        if self.prefix_positions.shape[1]:  # without one, the position is part of the cls token
            prefix = prefix + self.prefix_positions
        if vit.reg_token is not None:
            prefix = torch.cat([prefix, vit.reg_token], dim=1)
        tokens = torch.cat([prefix.expand(images.shape[0], -1, -1), patches], dim=1)
        tokens = vit.norm_pre(tokens)
        for block in vit.blocks:
            tokens = block(tokens)
        tokens = vit.norm(tokens)
        return tokens[:, 0], tokens[:, vit.num_prefix_tokens :]
