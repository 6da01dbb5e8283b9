"""Evaluation protocols of frozen backbones."""

from proteus.evaluation.protocols.dense_knn import DenseKNN
from proteus.evaluation.protocols.fine_grained import FineGrained
from proteus.evaluation.protocols.knn import KNN
from proteus.evaluation.protocols.linear_probe import LinearProbing
from proteus.evaluation.protocols.protocol import EvalContext, Protocol, ProtocolResult, SetProtocol
from proteus.evaluation.protocols.retrieval import Retrieval
from proteus.evaluation.protocols.robustness import Robustness
from proteus.evaluation.protocols.zero_shot import ZeroShot

__all__ = [
    "KNN",
    "DenseKNN",
    "EvalContext",
    "FineGrained",
    "LinearProbing",
    "Protocol",
    "ProtocolResult",
    "Retrieval",
    "Robustness",
    "SetProtocol",
    "ZeroShot",
]
