"""Hooks, optimizers and schedules that MMEngine lacks."""

from proteus.engine.hooks import (
    CorruptImageHook,
    ExportStudentHook,
    SeedEachStepHook,
    StrictCheckpointHook,
    ThroughputHook,
)
from proteus.engine.optim import AutocastOptimWrapper, DeiTCosineLR, MergedGroupsConstructor

__all__ = [
    "AutocastOptimWrapper",
    "CorruptImageHook",
    "DeiTCosineLR",
    "ExportStudentHook",
    "MergedGroupsConstructor",
    "SeedEachStepHook",
    "StrictCheckpointHook",
    "ThroughputHook",
]
