"""What a student is worth."""

from proteus.evaluation.metrics import TeacherAgreement
from proteus.evaluation.retrieval import patch_retrieval

__all__ = ["TeacherAgreement", "patch_retrieval"]
