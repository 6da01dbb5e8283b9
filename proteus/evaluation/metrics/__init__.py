"""Metrics that MMEngine's evaluator runs."""

from proteus.evaluation.metrics.accuracy import Accuracy
from proteus.evaluation.metrics.teacher_agreement import TeacherAgreement, centred_cosine

__all__ = ["Accuracy", "TeacherAgreement", "centred_cosine"]
