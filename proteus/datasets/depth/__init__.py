"""Images with depth maps."""

from proteus.datasets.depth.collate import depth_collate
from proteus.datasets.depth.nyu import NYUDepth

__all__ = ["NYUDepth", "depth_collate"]
