"""A small ViT's initial weights as a slice of its teacher."""

from proteus.models.initialization.slicing.checks import check_slice
from proteus.models.initialization.slicing.fit import slice_teacher
from proteus.models.initialization.slicing.noise import noise_images

__all__ = ["check_slice", "noise_images", "slice_teacher"]
