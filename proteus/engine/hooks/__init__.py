"""What happens around the training step."""

from proteus.engine.hooks.best_head import BestHeadHook
from proteus.engine.hooks.classifier_check import ClassifierCheckHook
from proteus.engine.hooks.corrupt_images import CorruptImageHook, CorruptProxySetError
from proteus.engine.hooks.export import ExportStudentHook
from proteus.engine.hooks.proxy_set import ProxySetHook
from proteus.engine.hooks.seed import SeedEachStepHook
from proteus.engine.hooks.strict_checkpoint import StrictCheckpointHook
from proteus.engine.hooks.throughput import ThroughputHook
from proteus.engine.hooks.watch import WatchHook

__all__ = [
    "BestHeadHook",
    "ClassifierCheckHook",
    "CorruptImageHook",
    "CorruptProxySetError",
    "ExportStudentHook",
    "ProxySetHook",
    "SeedEachStepHook",
    "StrictCheckpointHook",
    "ThroughputHook",
    "WatchHook",
]
