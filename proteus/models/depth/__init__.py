"""Depth from one image: DPT's head, its losses, and the model that owns backbone and head."""

from proteus.models.depth.data_preprocessor import DepthDataPreprocessor
from proteus.models.depth.dpt import DPTDecoder
from proteus.models.depth.dpt_head import DPTDepthHead
from proteus.models.depth.estimator import DepthEstimator
from proteus.models.depth.flip_tta import DepthFlipTTA
from proteus.models.depth.linear_head import LinearDepthHead
from proteus.models.depth.losses import GradientLoss, SigLoss, SiLogLoss

__all__ = [
    "DPTDecoder",
    "DPTDepthHead",
    "DepthDataPreprocessor",
    "DepthEstimator",
    "DepthFlipTTA",
    "GradientLoss",
    "LinearDepthHead",
    "SiLogLoss",
    "SigLoss",
]
