"""Data sets of images with depth maps."""

from proteus.datasets.depth.nyu import NYUDepth, depth_collate

__all__ = ["NYUDepth", "depth_collate"]
