"""Segmentation sets of mmseg with checks at start and reproducible random transforms."""

from proteus.datasets.segmentation.loading import CheckLabels, LoadBGRImage
from proteus.datasets.segmentation.segmentation_set import SegmentationSet

__all__ = ["CheckLabels", "LoadBGRImage", "SegmentationSet"]
