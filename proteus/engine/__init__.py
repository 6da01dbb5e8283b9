"""Hooks, optimizers and schedules that MMEngine lacks."""

from proteus.engine.hooks import (
    BestHeadHook,
    CorruptImageHook,
    ExportStudentHook,
    SeedEachStepHook,
    StrictCheckpointHook,
    ThroughputHook,
)
from proteus.engine.optim import (
    AutocastOptimWrapper,
    DeiTCosineLR,
    LayerDecayConstructor,
    MergedGroupsConstructor,
    OneCycleLR,
    ProbeConstructor,
)
from proteus.engine.runner import DataParallel

__all__ = [
    "AutocastOptimWrapper",
    "BestHeadHook",
    "CorruptImageHook",
    "DataParallel",
    "DeiTCosineLR",
    "ExportStudentHook",
    "LayerDecayConstructor",
    "MergedGroupsConstructor",
    "OneCycleLR",
    "ProbeConstructor",
    "SeedEachStepHook",
    "StrictCheckpointHook",
    "ThroughputHook",
]
