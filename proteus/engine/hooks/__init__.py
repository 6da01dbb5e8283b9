"""What happens around the training step."""

from proteus.engine.hooks.corrupt_images import CorruptImageHook, CorruptProxySetError
from proteus.engine.hooks.export import ExportStudentHook
from proteus.engine.hooks.proxy_set import ProxySetHook
from proteus.engine.hooks.seed import SeedEachStepHook
from proteus.engine.hooks.strict_checkpoint import StrictCheckpointHook
from proteus.engine.hooks.throughput import ThroughputHook

__all__ = [
    "CorruptImageHook",
    "CorruptProxySetError",
    "ExportStudentHook",
    "ProxySetHook",
    "SeedEachStepHook",
    "StrictCheckpointHook",
    "ThroughputHook",
]
