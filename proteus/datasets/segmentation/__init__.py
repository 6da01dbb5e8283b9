"""Segmentation sets: mmseg's with checks at start and reproducible random transforms, and folders of masks."""

from proteus.datasets.segmentation.check_labels import CheckLabels
from proteus.datasets.segmentation.loading import LoadBGRImage
from proteus.datasets.segmentation.mask_folders import MaskFolders, PatchMemory
from proteus.datasets.segmentation.segmentation_set import SegmentationSet

__all__ = ["CheckLabels", "LoadBGRImage", "MaskFolders", "PatchMemory", "SegmentationSet"]
