"""A vision transformer under a dense head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from proteus.models.backbones.features import sides_of
from proteus.models.backbones.frozen import Freezable
from proteus.models.backbones.vit import ViT
from proteus.registry import MODELS


@MODELS.register_module()
class DenseViT(Freezable, ViT):
    """A ViT that returns feature maps of several blocks: the backbone that mmseg's and other dense heads expect.

    What follows the last of ``out_indices`` (blocks, and the final norm unless ``final_norm``) is never trained.

    Args:
        out_indices: Blocks with outputs to return, in the order of the blocks; negative from the end.
        final_norm: Pass each through the final LayerNorm.
        frozen: Train nothing of it and keep it in eval mode (*linear* protocols).
        center_padding: Pad images to multiples of the patch size with zeros, evenly on both sides, as DINOv2's
            evaluation does. By default in eval mode, where images have different sizes; in training other sizes are
            refused, as the crop should fit, also if ``frozen``. ``False`` refuses them always.
        **vit: As for :class:`ViT`.

    Raises:
        ValueError: As for :class:`ViT`, or a block is named twice in ``out_indices``.
        IndexError: ``out_indices`` are empty or beyond the last block.
    """

    def __init__(
        self,
        out_indices: int | Sequence[int] = (3, 5, 7, 11),
        final_norm: bool = False,
        frozen: bool = False,
        center_padding: bool | None = None,
        **vit: Any,
    ) -> None:
        super().__init__(**vit)
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        blocks = self._blocks(indices)
        if len(blocks) < len(indices):
            raise ValueError(f"out_indices={indices}: a block is named twice")
        last = max(blocks)
        self.out_indices = tuple(sorted(blocks))
        self.final_norm = final_norm
        self.center_padding = center_padding
        # Several processes would otherwise wait for gradients that never come.
        for unused in [*self.vit.blocks[last + 1 :], *([] if final_norm else [self.vit.norm])]:
            unused.requires_grad_(False)
        if frozen:
            self.freeze()

    remedy = "crop or resize them, or write model.backbone.center_padding=True"

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each map that is returned."""
        return (self.embed_dim,) * len(self.out_indices)

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Return one ``(B, D, h, w)`` map for each of ``out_indices``; dense models take no masks."""
        if masks is not None:
            raise ValueError("DenseViT takes no masks: use ViT")
        if self.center_padding or (self.center_padding is None and not self.in_training):
            height, width = sides_of(images)
            missing = [-side % self.patch_size for side in (width, height)]
            images = F.pad(images, [part for side in missing for part in (side // 2, side - side // 2)])
        return tuple(level.maps for level in self.levels(images, self.out_indices, norm=self.final_norm))
