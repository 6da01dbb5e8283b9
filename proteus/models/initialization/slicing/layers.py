"""Reading and writing the weights of single layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing.streams import Streams

# Too little for another fit on other views, but it keeps weights along directions of little variance small. Without it
# the first block's are three times as large, and the first steps of a training lose much of what the slice had.
_READER_RIDGE = 5e-3


class Reader:
    """Turns layers that read the teacher's normalised stream into layers that read the student's.

    What the teacher's layers read is predicted from the student's stream by least squares, so that directions that the
    student lacks, and what the blocks before have lost, are replaced by their best estimate.

    Args:
        ours: The student's LayerNorm before the layers, with gain 1 and bias 0.
        theirs: The teacher's.
        streams: The streams as they enter it.
    """

    def __init__(self, ours: nn.LayerNorm, theirs: nn.LayerNorm, streams: Streams) -> None:
        width, wider = streams.basis.shape
        fit = LeastSquares(width, wider, streams.basis.device)
        for pair in streams:
            streams.add(fit, ours(pair.student), theirs(streams.shared(pair)))
        self._weight, self._bias = fit.solve(ridge=_READER_RIDGE)

    def sliced(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight ``(O, d)`` and bias ``(O,)`` for weight ``(O, D)`` and bias of the teacher."""
        constant = weight @ self._bias
        return weight @ self._weight, constant if bias is None else constant + bias


def plain(norm: nn.LayerNorm, scale: Tensor | None) -> None:
    """Set gain 1, bias 0 and LayerScale 1: those of the teacher are in the weights."""
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    if scale is not None:
        nn.init.ones_(scale)


def fold_constants(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a weight with which a layer without a bias gives constants.

    What a LayerNorm of gain 1 gives sums to zero, so that weights along the ones read nothing of it. They can read a
    constant which the norm adds along the ones.

    Args:
        norm: The student's LayerNorm before the layer, with gain 1; its bias becomes the unit vector of the ones.
        weight: ``(O, d)``.
        bias: The constants, ``(O,)``.
    """
    ones = torch.full_like(norm.bias, len(norm.bias) ** -0.5)
    norm.bias.copy_(ones)
    return weight + torch.outer(bias - weight @ ones, ones)


def write(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set weight and bias; a layer without a bias goes without."""
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(bias)


def writer(layer: nn.Linear, scale: Tensor | None) -> Tensor:
    """Return the weight of a layer that writes to the stream, with the LayerScale after it."""
    return layer.weight if scale is None else scale[:, None] * layer.weight
