"""The terms of the loss."""

from proteus.models.objectives.hidden_states import HiddenStatesObjective, matching_blocks
from proteus.models.objectives.logits import LabelObjective, LogitsObjective
from proteus.models.objectives.masked_patches import PatchObjective, shares_of_parts
from proteus.models.objectives.objective import Objective, StepFeatures, end_step
from proteus.models.objectives.patch_relation import PatchRelationObjective
from proteus.models.objectives.token_relation import TokenRelationObjective
from proteus.models.objectives.tokens import FeatureObjective, TokenObjective

__all__ = [
    "FeatureObjective",
    "HiddenStatesObjective",
    "LabelObjective",
    "LogitsObjective",
    "Objective",
    "PatchObjective",
    "PatchRelationObjective",
    "StepFeatures",
    "TokenObjective",
    "TokenRelationObjective",
    "end_step",
    "matching_blocks",
    "shares_of_parts",
]
