"""Image -> ``Features``."""

from proteus.models.backbones.adapter import AdaptedBackbone, build_backbone
from proteus.models.backbones.pos_embed import interpolate_pos_embed
from proteus.models.backbones.spec import BackboneSpec, locate_backbone
from proteus.models.backbones.timm_backbone import TimmBackbone
from proteus.models.backbones.vit import DenseViT, ViT

__all__ = [
    "AdaptedBackbone",
    "BackboneSpec",
    "DenseViT",
    "TimmBackbone",
    "ViT",
    "build_backbone",
    "interpolate_pos_embed",
    "locate_backbone",
]
