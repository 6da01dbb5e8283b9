"""Networks that end in class scores."""

from proteus.models.classifiers.data_preprocessor import ProbeDataPreprocessor
from proteus.models.classifiers.heads import Head, HeadBank
from proteus.models.classifiers.linear_probe import LEARNING_RATES, LinearProbe
from proteus.models.classifiers.mmpretrain_data_preprocessor import ClassifierDataPreprocessor

__all__ = ["LEARNING_RATES", "ClassifierDataPreprocessor", "Head", "HeadBank", "LinearProbe", "ProbeDataPreprocessor"]
