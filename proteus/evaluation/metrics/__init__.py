"""Metrics that MMEngine's evaluator runs."""

from proteus.evaluation.metrics.teacher_agreement import TeacherAgreement, centred_cosine

__all__ = ["TeacherAgreement", "centred_cosine"]
