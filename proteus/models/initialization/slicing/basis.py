"""The coordinates of the student's residual stream in that of its teacher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.initialization.slicing.streams import token_weights, without_registers
from proteus.models.initialization.slicing.vits import SliceableViT
from proteus.utils.principal_basis import basis_of_moment


def principal_basis(
    source: SliceableViT, batches: Iterable[Tensor], width: int, gains: Tensor, prefix: int, extra: int = 0
) -> Tensor:
    """Choose the leading principal directions of what the layers read, and of the output.

    As in SliceGPT (Ashkboos et al., 2024, section 3), with one more coordinate, in which the stream is always zero, so
    that LayerNorm's own centring changes nothing.

    Args:
        source: The teacher.
        batches: Images, normalised for the teacher.
        width: Width ``d`` of the student.
        gains: ``(D,)``: those of a LayerNorm of the teacher; the coordinates are turned until they become gains of the
            student's, as far as they can.
        prefix: Number of the student's prefix tokens.
        extra: Number of the teacher's registers that the student does not have; they do not count.

    Returns:
        ``(d, D)``: maps the stream to ``d`` coordinates, and its transpose back.
    """
    moment = _moment(source, batches, prefix, extra)
    return basis_of_moment(moment, width, gains)


def sliced_norm(norm: nn.LayerNorm, original: nn.LayerNorm, cls: Tensor, basis: Tensor) -> None:
    """Give the student's last norm the teacher's metric, and zero for the mean cls token ``cls`` ``(B, d)``.

    What all images share would drown the cosines of their cls tokens.
    """
    norm.weight.copy_((basis.square() @ original.weight.square()).sqrt())
    nn.init.zeros_(norm.bias)
    norm.bias.copy_(-norm(cls).mean(0))


def _moment(source: SliceableViT, batches: Iterable[Tensor], prefix: int, extra: int) -> Tensor:
    """Return the second moment of the normalised stream, ``(D, D)`` in float64."""
    size, device = source.vit.embed_dim, source.vit.norm.weight.device
    blocks, output = (torch.zeros(size, size, dtype=torch.float64, device=device) for _ in range(2))
    for images in batches:
        stream = source.embed(images)
        for block in source.blocks:
            for step in (block.attend, block.transform):
                blocks += _second_moment(without_registers(stream, prefix, extra), prefix)
                stream = stream + step(stream)
        output += _second_moment(without_registers(stream, prefix, extra), prefix)
    # What comes out is all that anyone sees: it counts as much as what all layers read.
    return blocks / (2 * len(source.blocks)) + output


def _second_moment(stream: Tensor, prefix: int) -> Tensor:
    read = F.layer_norm(stream, stream.shape[-1:])
    weights = token_weights(read, prefix)[:, None]
    rows = read.flatten(0, 1)
    return ((weights * rows).T @ rows).double()
