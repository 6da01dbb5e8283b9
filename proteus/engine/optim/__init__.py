"""Parameter groups, precision and schedules."""

from proteus.engine.optim.autocast import AutocastOptimWrapper
from proteus.engine.optim.constructors import MergedGroupsConstructor, ProbeConstructor
from proteus.engine.optim.layer_decay import LayerDecayConstructor
from proteus.engine.optim.muon import Muon, NAdaMuon
from proteus.engine.optim.schedules import DeiTCosineLR, OneCycleLR

__all__ = [
    "AutocastOptimWrapper",
    "DeiTCosineLR",
    "LayerDecayConstructor",
    "MergedGroupsConstructor",
    "Muon",
    "NAdaMuon",
    "OneCycleLR",
    "ProbeConstructor",
]
