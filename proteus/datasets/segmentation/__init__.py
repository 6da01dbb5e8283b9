"""Images with a mask of classes each: what mmseg's data sets read, checked and drawn as a function of a key."""

from proteus.datasets.segmentation.check_labels import CheckLabels
from proteus.datasets.segmentation.loading import LoadBGRImage
from proteus.datasets.segmentation.segmentation_set import SegmentationSet

__all__ = ["CheckLabels", "LoadBGRImage", "SegmentationSet"]
