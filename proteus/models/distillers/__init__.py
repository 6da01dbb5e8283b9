"""The models that MMEngine's runner trains."""

from proteus.models.distillers.balance import LossMagnitudeBalance
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.distillers.distiller import Distiller
from proteus.models.distillers.mixup import MixupDataPreprocessor
from proteus.models.distillers.multi_student import MultiStudentDistiller
from proteus.models.distillers.multi_teacher import MultiTeacherDistiller
from proteus.models.distillers.shift import ShiftDataPreprocessor

__all__ = [
    "DistillDataPreprocessor",
    "Distiller",
    "LossMagnitudeBalance",
    "MixupDataPreprocessor",
    "MultiStudentDistiller",
    "MultiTeacherDistiller",
    "ShiftDataPreprocessor",
]
