"""Networks that end in class scores."""

from proteus.models.classifiers.data_preprocessor import ProbeDataPreprocessor
from proteus.models.classifiers.heads import Head, HeadBank
from proteus.models.classifiers.linear_probe import LEARNING_RATES, LinearProbe
from proteus.models.classifiers.mmpretrain_data_preprocessor import MMPretrainDataPreprocessor

__all__ = ["LEARNING_RATES", "Head", "HeadBank", "LinearProbe", "MMPretrainDataPreprocessor", "ProbeDataPreprocessor"]
