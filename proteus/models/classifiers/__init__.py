"""Networks that end in class scores."""

from proteus.models.classifiers.data_preprocessor import ProbeDataPreprocessor
from proteus.models.classifiers.guest_batch import ClassifierDataPreprocessor
from proteus.models.classifiers.heads import Head, HeadBank
from proteus.models.classifiers.linear_probe import LEARNING_RATES, LinearProbe

__all__ = ["LEARNING_RATES", "ClassifierDataPreprocessor", "Head", "HeadBank", "LinearProbe", "ProbeDataPreprocessor"]
