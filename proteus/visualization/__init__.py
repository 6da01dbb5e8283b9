"""Pictures of features, predictions and training curves, and where runs send them."""

from proteus.visualization.curves import draw_curves
from proteus.visualization.depth_map import draw_depth_map
from proteus.visualization.pca import PCA, draw_pca
from proteus.visualization.probe_grid import draw_probe_grid
from proteus.visualization.segmentation import draw_segmentation
from proteus.visualization.wandb_backend import WandbVisBackend

__all__ = [
    "PCA",
    "WandbVisBackend",
    "draw_curves",
    "draw_depth_map",
    "draw_pca",
    "draw_probe_grid",
    "draw_segmentation",
]
