"""Reading and writing the weights of single layers."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block, LayerScale
from torch import Tensor, nn

from proteus.models.initialization.slicing.streams import Streams


class Reader:
    """Turns layers that read the teacher's normalised stream into layers that read the student's.

    Args:
        norm: The teacher's LayerNorm before the layers.
        streams: The streams as they enter it.
    """

    def __init__(self, norm: nn.LayerNorm, streams: Streams) -> None:
        self._norm = norm
        self._basis = streams.basis
        # Each LayerNorm divides by its own stream's deviation; the student's has less of it, in fewer entries.
        ours = torch.cat([pair.student.std(-1).flatten() for pair in streams]).mean()
        theirs = torch.cat([streams.shared(pair).std(-1).flatten() for pair in streams]).mean()
        self._ratio = ours / theirs

    def sliced(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight ``(O, d)`` and bias ``(O,)`` for weight ``(O, D)`` and bias of the teacher."""
        found = self._ratio * (weight * self._norm.weight) @ self._basis.T
        constant = weight @ self._norm.bias
        return found, constant if bias is None else constant + bias


def plain(norm: nn.LayerNorm, scale: nn.Module | None = None) -> None:
    """Set gain 1, bias 0 and LayerScale 1: those of the teacher are in the weights."""
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    if isinstance(scale, LayerScale):
        nn.init.ones_(scale.gamma)


def write(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Set weight and bias; a layer without a bias goes without."""
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(bias)


def silence(block: Block) -> None:
    """Write nothing to the stream: the block is the identity, and learns from the first gradient on."""
    for layer in (block.attn.proj, block.mlp.fc2):
        write(layer, torch.zeros_like(layer.weight), layer.weight.new_zeros(len(layer.weight)))
