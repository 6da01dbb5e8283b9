"""Image -> ``Features``."""

from proteus.models.backbones.pos_embed import interpolate_pos_embed
from proteus.models.backbones.vit import DenseViT, ViT

__all__ = ["DenseViT", "ViT", "interpolate_pos_embed"]
