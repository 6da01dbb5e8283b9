"""Optimizer groups, precision and schedule."""

from proteus.engine.optim.autocast import AutocastOptimWrapper
from proteus.engine.optim.constructor import MergedGroupsConstructor
from proteus.engine.optim.layer_decay import LayerDecayConstructor
from proteus.engine.optim.one_cycle import OneCycleLR
from proteus.engine.optim.probe_constructor import ProbeConstructor
from proteus.engine.optim.schedule import DeiTCosineLR

__all__ = [
    "AutocastOptimWrapper",
    "DeiTCosineLR",
    "LayerDecayConstructor",
    "MergedGroupsConstructor",
    "OneCycleLR",
    "ProbeConstructor",
]
