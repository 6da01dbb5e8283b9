"""Metrics that MMEngine's evaluator runs."""

from proteus.evaluation.metrics.accuracy import Accuracy
from proteus.evaluation.metrics.checked import CheckedMetric
from proteus.evaluation.metrics.classification import TopOne
from proteus.evaluation.metrics.corruption_error import CorruptionError
from proteus.evaluation.metrics.depth import DepthMetric
from proteus.evaluation.metrics.probe_accuracy import ProbeAccuracy, ProbeGrid
from proteus.evaluation.metrics.teacher_agreement import TeacherAgreement, centred_cosine

__all__ = [
    "Accuracy",
    "CheckedMetric",
    "CorruptionError",
    "DepthMetric",
    "ProbeAccuracy",
    "ProbeGrid",
    "TeacherAgreement",
    "TopOne",
    "centred_cosine",
]
