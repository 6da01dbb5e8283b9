"""The terms of the loss."""

from proteus.models.objectives.logits import LabelObjective, LogitsObjective
from proteus.models.objectives.masked_patches import PatchObjective, shares_of_parts
from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.models.objectives.tokens import FeatureObjective, TokenObjective

__all__ = [
    "FeatureObjective",
    "LabelObjective",
    "LogitsObjective",
    "Objective",
    "PatchObjective",
    "StepFeatures",
    "TokenObjective",
    "shares_of_parts",
]
