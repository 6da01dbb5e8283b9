"""Where a student's initial weights come from."""

from proteus.models.initialization.fitted_heads import fit_heads
from proteus.models.initialization.slicing import check_slice, noise_images, slice_teacher
from proteus.models.initialization.weight_selection import WeightSelection, evenly_spaced, select_evenly

__all__ = [
    "WeightSelection",
    "check_slice",
    "evenly_spaced",
    "fit_heads",
    "noise_images",
    "select_evenly",
    "slice_teacher",
]
