"""What a student is worth."""

from proteus.evaluation.metrics import Accuracy, TeacherAgreement
from proteus.evaluation.retrieval import patch_retrieval

__all__ = ["Accuracy", "TeacherAgreement", "patch_retrieval"]
