"""The coordinates of the student's residual stream in that of its teacher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.backbones import ViT
from proteus.models.initialization.slicing.streams import attend, token_weights, transform, without_registers


def principal_basis(
    source: ViT, batches: Iterable[Tensor], width: int, gains: Tensor, prefix: int, extra: int = 0
) -> Tensor:
    """Choose the leading principal directions of what the layers read, and of the output.

    As in SliceGPT (Ashkboos et al., 2024, section 3), with one more coordinate, in which the stream is always zero, so
    that LayerNorm's own centring changes nothing.

    Args:
        source: The teacher's backbone.
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
    size, device = len(moment), moment.device
    # What LayerNorm hands on is centred, so that nothing lies along the ones, but for rounding.
    ones = torch.full((size, 1), size**-0.5, dtype=moment.dtype, device=device)
    leading = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, : width - 1]
    directions = torch.linalg.qr(leading - ones @ (ones.T @ leading)).Q
    scaled = gains.double()[:, None] * directions
    turned = directions @ torch.linalg.eigh(scaled.T @ scaled).eigenvectors
    return (_orthogonal_to_ones(width, moment) @ turned.T).float()


def sliced_norm(norm: nn.LayerNorm, original: nn.LayerNorm, cls: Tensor, basis: Tensor) -> None:
    """Give the student's last norm the teacher's metric, and zero for the mean cls token ``cls`` ``(B, d)``.

    What all images share would drown the cosines of their cls tokens.
    """
    norm.weight.copy_((basis.square() @ original.weight.square()).sqrt())
    nn.init.zeros_(norm.bias)
    norm.bias.copy_(-norm(cls).mean(0))


def _moment(source: ViT, batches: Iterable[Tensor], prefix: int, extra: int) -> Tensor:
    """Return the second moment of the normalised stream, ``(D, D)`` in float64."""
    size, device = source.embed_dim, source.vit.norm.weight.device
    blocks, output = (torch.zeros(size, size, dtype=torch.float64, device=device) for _ in range(2))
    for images in batches:
        stream, _ = source.embed(images)
        for block in source.vit.blocks:
            for step in (attend, transform):
                blocks += _second_moment(without_registers(stream, prefix, extra), prefix)
                stream = stream + step(block, stream)
        output += _second_moment(without_registers(stream, prefix, extra), prefix)
    # What comes out is all that anyone sees: it counts as much as what all layers read.
    return blocks / (2 * source.depth) + output


def _second_moment(stream: Tensor, prefix: int) -> Tensor:
    read = F.layer_norm(stream, stream.shape[-1:])
    weights = token_weights(read, prefix)[:, None]
    rows = read.flatten(0, 1)
    return ((weights * rows).T @ rows).double()


def _orthogonal_to_ones(width: int, like: Tensor) -> Tensor:
    """``(d, d - 1)``: orthonormal columns, each of which sums to zero and is nearly a unit vector (Householder's)."""
    normal = torch.full((width, 1), width**-0.5, dtype=like.dtype, device=like.device)
    normal[-1] -= 1
    identity = torch.eye(width, dtype=like.dtype, device=like.device)
    return (identity - 2 * normal @ normal.T / normal.square().sum())[:, :-1]
