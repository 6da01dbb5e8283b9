"""Where a student's first weights come from."""

from proteus.models.inheritance.weight_selection import WeightSelection, evenly_spaced, select_evenly

__all__ = ["WeightSelection", "evenly_spaced", "select_evenly"]
