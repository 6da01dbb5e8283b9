"""The terms of the loss."""

from proteus.models.objectives.logits import LabelObjective, LogitsObjective
from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.models.objectives.tokens import FeatureObjective, PatchObjective, TokenObjective, shares_of_parts

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
