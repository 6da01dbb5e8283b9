"""Build the parts of a distiller from their configs."""

from __future__ import annotations

from typing import Any

from torch import nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.objectives import Objective
from proteus.models.teachers import Teacher
from proteus.registry import MODELS


def build_preprocessor(config: dict[str, Any] | DistillDataPreprocessor | None) -> DistillDataPreprocessor:
    """Build the data preprocessor in Proteus's registry, which MMEngine asks only if a default scope is set."""
    if isinstance(config, nn.Module):
        return config
    built: DistillDataPreprocessor = MODELS.build(config or {"type": "DistillDataPreprocessor"})
    return built


def build_teacher(config: dict[str, Any] | Teacher, preprocessor: Any, key: str = "model.teacher") -> Teacher:
    """Build the teacher of images that ``preprocessor`` normalises; ``key`` is its key in the config, for messages."""
    if isinstance(config, nn.Module):
        return config
    with prefix_checkpoint_errors(key, separator="."):
        statistics = {"input_mean": preprocessor.channel_mean, "input_std": preprocessor.channel_std}
        built: Teacher = MODELS.build(config, default_args=statistics)
    return built


def dependencies_first(objectives: dict[str, Objective]) -> dict[str, Objective]:
    """Order objectives so that one that reuses another's term follows it; the config may have any order."""
    ordered: dict[str, Objective] = {}
    for name, objective in objectives.items():
        if objective.cls_term in objectives:
            ordered.setdefault(objective.cls_term, objectives[objective.cls_term])
        ordered.setdefault(name, objective)
    return ordered
