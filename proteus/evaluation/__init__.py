"""What a student is worth."""

from proteus.evaluation.metrics import Accuracy, ProbeAccuracy, TeacherAgreement, TopOne
from proteus.evaluation.retrieval import patch_retrieval

__all__ = ["Accuracy", "ProbeAccuracy", "TeacherAgreement", "TopOne", "patch_retrieval"]
