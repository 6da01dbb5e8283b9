"""Metrics that MMEngine's evaluator runs."""

from proteus.evaluation.metrics.accuracy import StudentTeacherAccuracy
from proteus.evaluation.metrics.checked import CheckedMetric
from proteus.evaluation.metrics.classification import Top1Accuracy
from proteus.evaluation.metrics.corruption_error import CorruptionError
from proteus.evaluation.metrics.depth import DepthMetric
from proteus.evaluation.metrics.probe_accuracy import ProbeAccuracy, ProbeGrid
from proteus.evaluation.metrics.teacher_agreement import TeacherAgreement, centered_cosine

__all__ = [
    "CheckedMetric",
    "CorruptionError",
    "DepthMetric",
    "ProbeAccuracy",
    "ProbeGrid",
    "StudentTeacherAccuracy",
    "TeacherAgreement",
    "Top1Accuracy",
    "centered_cosine",
]
