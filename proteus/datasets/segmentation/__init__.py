"""Segmentation sets of mmseg with checks at start and reproducible random transforms."""

from proteus.datasets.segmentation.check_labels import CheckLabels
from proteus.datasets.segmentation.loading import LoadBGRImage
from proteus.datasets.segmentation.segmentation_set import SegmentationSet

__all__ = ["CheckLabels", "LoadBGRImage", "SegmentationSet"]
