"""Hooks, optimizer constructors and schedules in addition to MMEngine's."""

from proteus.engine.hooks import (
    AtomicCheckpointHook,
    BestHeadHook,
    CorruptImageHook,
    DivergedError,
    ExportStudentHook,
    ResolutionHook,
    ResumeSettingsHook,
    SaveOnSignalHook,
    SeedEachStepHook,
    StopOnNaNHook,
    StoppedBySignal,
    StrictCheckpointHook,
    ThroughputHook,
)
from proteus.engine.optim import (
    AutocastOptimWrapper,
    DeiTCosineLR,
    LayerDecayConstructor,
    MergedGroupsConstructor,
    Muon,
    NAdaMuon,
    OneCycleLR,
    ProbeConstructor,
)
from proteus.engine.runner import DataParallel

__all__ = [
    "AtomicCheckpointHook",
    "AutocastOptimWrapper",
    "BestHeadHook",
    "CorruptImageHook",
    "DataParallel",
    "DeiTCosineLR",
    "DivergedError",
    "ExportStudentHook",
    "LayerDecayConstructor",
    "MergedGroupsConstructor",
    "Muon",
    "NAdaMuon",
    "OneCycleLR",
    "ProbeConstructor",
    "ResolutionHook",
    "ResumeSettingsHook",
    "SaveOnSignalHook",
    "SeedEachStepHook",
    "StopOnNaNHook",
    "StoppedBySignal",
    "StrictCheckpointHook",
    "ThroughputHook",
]
