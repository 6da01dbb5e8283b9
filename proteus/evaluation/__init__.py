"""What a student is worth."""

from proteus.evaluation.metrics import TeacherAgreement

__all__ = ["TeacherAgreement"]
