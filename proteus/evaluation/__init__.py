"""What a student is worth."""

from proteus.evaluation.metrics import ProbeAccuracy, StudentTeacherAccuracy, TeacherAgreement, Top1Accuracy
from proteus.evaluation.retrieval import patch_retrieval

__all__ = ["ProbeAccuracy", "StudentTeacherAccuracy", "TeacherAgreement", "Top1Accuracy", "patch_retrieval"]
