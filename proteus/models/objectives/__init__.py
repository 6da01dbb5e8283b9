"""The terms of the loss."""

from proteus.models.objectives.feature import FeatureObjective
from proteus.models.objectives.logits import LabelObjective, LogitsObjective
from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.models.objectives.patch import PatchObjective, shares_of_parts
from proteus.models.objectives.token import TokenObjective

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
