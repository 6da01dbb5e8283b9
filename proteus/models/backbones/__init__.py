"""Backbones: they encode images into ``Features``."""

from proteus.models.backbones.architecture import architecture_of, weights_of
from proteus.models.backbones.dense_timm import DenseTimm
from proteus.models.backbones.dense_vit import DenseViT
from proteus.models.backbones.factory import BackboneSpec, locate_backbone
from proteus.models.backbones.features import AsTuple
from proteus.models.backbones.mapped import MappedBackbone
from proteus.models.backbones.openmmlab import AdaptedBackbone, build_backbone
from proteus.models.backbones.pos_embed import interpolate_pos_embed
from proteus.models.backbones.rel_pos_vit import RelPosDenseViT
from proteus.models.backbones.timm_backbone import TimmBackbone
from proteus.models.backbones.vit import ViT

__all__ = [
    "AdaptedBackbone",
    "AsTuple",
    "BackboneSpec",
    "DenseTimm",
    "DenseViT",
    "MappedBackbone",
    "RelPosDenseViT",
    "TimmBackbone",
    "ViT",
    "architecture_of",
    "build_backbone",
    "interpolate_pos_embed",
    "locate_backbone",
    "weights_of",
]
