"""Hooks of MMEngine's runner."""

from proteus.engine.hooks.async_runtime_info import AsyncRuntimeInfoHook
from proteus.engine.hooks.batch_norm import BatchNormHook
from proteus.engine.hooks.best_head import BestHeadHook
from proteus.engine.hooks.checkpoint import AtomicCheckpointHook
from proteus.engine.hooks.corrupt_images import CorruptImageHook, CorruptProxySetError
from proteus.engine.hooks.export import ExportStudentHook
from proteus.engine.hooks.metrics_log import MetricsLogHook
from proteus.engine.hooks.online_eval import OnlineEvalHook
from proteus.engine.hooks.proxy_set import ProxySetHook
from proteus.engine.hooks.resolution import ResolutionHook
from proteus.engine.hooks.resume_settings import ResumeSettingsHook
from proteus.engine.hooks.sanity_checks import (
    ClassifierCheckHook,
    DepthCheckHook,
    SegmentorCheckHook,
    StrictCheckpointHook,
)
from proteus.engine.hooks.save_on_signal import SaveOnSignalHook, StoppedBySignal
from proteus.engine.hooks.seed import SeedEachStepHook
from proteus.engine.hooks.sliced_init import SlicedInitHook
from proteus.engine.hooks.standardization import StandardizationHook
from proteus.engine.hooks.stop_on_nan import DivergedError, StopOnNaNHook
from proteus.engine.hooks.student_ema import StudentEMAHook
from proteus.engine.hooks.teacher_cache import TeacherCacheHook
from proteus.engine.hooks.teacher_depth import TeacherDepthHook
from proteus.engine.hooks.throughput import ThroughputHook
from proteus.engine.hooks.visualization import (
    DepthVisualizationHook,
    SegmentationVisualizationHook,
    VisualizationHook,
)

__all__ = [
    "AsyncRuntimeInfoHook",
    "AtomicCheckpointHook",
    "BatchNormHook",
    "BestHeadHook",
    "ClassifierCheckHook",
    "CorruptImageHook",
    "CorruptProxySetError",
    "DepthCheckHook",
    "DepthVisualizationHook",
    "DivergedError",
    "ExportStudentHook",
    "MetricsLogHook",
    "OnlineEvalHook",
    "ProxySetHook",
    "ResolutionHook",
    "ResumeSettingsHook",
    "SaveOnSignalHook",
    "SeedEachStepHook",
    "SegmentationVisualizationHook",
    "SegmentorCheckHook",
    "SlicedInitHook",
    "StandardizationHook",
    "StopOnNaNHook",
    "StoppedBySignal",
    "StrictCheckpointHook",
    "StudentEMAHook",
    "TeacherCacheHook",
    "TeacherDepthHook",
    "ThroughputHook",
    "VisualizationHook",
]
