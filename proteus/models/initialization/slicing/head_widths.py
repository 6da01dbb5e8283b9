"""Attention heads of another width than the teacher's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proteus.models.initialization.slicing.layers import writer
from proteus.models.initialization.slicing.streams import Streams, token_weights
from proteus.models.initialization.slicing.vits import PlainBlock


def pieces_per_head(width: int, wider: int) -> int:
    """Return the number of heads of one width that hold the values of a wider one."""
    return max(math.ceil(wider / width), 1)


def resized_heads(
    block: PlainBlock, original: PlainBlock, weight: Tensor, bias: Tensor, streams: Streams
) -> tuple[Tensor, Tensor]:
    """Turn the teacher's heads into heads of the student's width.

    Narrower heads get the queries and keys of lower rank with the nearest attention scores on these tokens, and a head
    becomes several, which share its values: the directions that write most come first. In wider heads the queries and
    keys are filled up with zeros and small numbers, and the values with what all heads write together.

    Args:
        block: The student's block, with its norm set.
        original: The teacher's block.
        weight: Queries, keys and values of the teacher's heads, in the student's coordinates, ``(3 H w, d)``.
        bias: Likewise, ``(3 H w,)``.
        streams: The streams as they enter the block.

    Returns:
        Weight ``(3 P w', d)`` and bias ``(3 P w',)`` of ``P`` heads of the student's width ``w'``.
    """
    theirs, width, wider = original.attn, block.attn.head_dim, original.attn.head_dim
    mean, moment = _moments(block, streams)
    covariance = moment - mean[:, None] * mean
    parts = torch.cat([weight, bias[:, None]], dim=1).double().unflatten(0, (3, theirs.num_heads, wider))
    writers = streams.basis.double() @ writer(theirs.proj, original.scale1).double()
    if width < wider:
        heads = _narrower(parts, writers, width, mean, moment, covariance)
    else:
        initial = block.attn.qkv.weight.double().unflatten(0, (3, block.attn.num_heads, width))[1, 0]
        heads = _wider(parts, writers, width, covariance, initial)
    rows = heads.flatten(0, 2)
    return rows[:, :-1].float().contiguous(), rows[:, -1].float().contiguous()


def _narrower(parts: Tensor, writers: Tensor, width: int, mean: Tensor, moment: Tensor, covariance: Tensor) -> Tensor:
    """Return queries, keys and values of ``P`` heads, ``(3, P, w', d + 1)``, with the bias last."""
    wider = parts.shape[2]
    scale = (width / wider) ** 0.25  # attention divides by the root of the width
    # The constant belongs to the queries; that of the keys changes all scores of a query alike.
    extended = torch.cat([torch.cat([moment, mean[:, None]], 1), torch.cat([mean, mean.new_ones(1)])[None]])
    found = []
    for head, (q, k, v) in enumerate(parts.unbind(1)):
        root_q, inverse_q = _roots(q @ extended @ q.T)
        root_k, inverse_k = _roots(k[:, :-1] @ covariance @ k[:, :-1].T)
        left, size, right = torch.linalg.svd(root_q @ root_k)
        strength = scale * size[:width, None].sqrt()
        queries = strength * (left.T[:width] @ inverse_q) @ q
        keys = strength * (right[:width] @ inverse_k) @ k
        # The directions of the values, by what they write to the stream.
        root, inverse = _roots(v[:, :-1] @ covariance @ v[:, :-1].T)
        written = writers[:, head * wider : (head + 1) * wider] @ root
        values = torch.linalg.eigh(written.T @ written).eigenvectors.flip(1).T @ inverse @ v * root.diagonal().mean()
        for piece in range(pieces_per_head(width, wider)):
            first = min(piece * width, wider - width)  # the last two overlap where the widths do not divide
            found.append(torch.stack([queries, keys, values[first : first + width]]))
    return torch.stack(found, dim=1)


def _wider(parts: Tensor, writers: Tensor, width: int, covariance: Tensor, initial: Tensor) -> Tensor:
    """As :func:`_narrower`; ``initial`` are random keys ``(w', d)``."""
    _, heads, narrower, columns = parts.shape
    queries, keys, values = parts.new_zeros(3, heads, width, columns).unbind(0)
    scale = (width / narrower) ** 0.25
    queries[:, :narrower], keys[:, :narrower] = scale * parts[0], scale * parts[1]
    keys[:, narrower:, :-1] = initial[narrower:]  # with queries of zero, which thus get gradients
    values[:, :narrower] = parts[2]
    together = parts[2].flatten(0, 1)
    root, inverse = _roots(together[:, :-1] @ covariance @ together[:, :-1].T)
    leading = torch.linalg.eigh((writers @ root).T @ (writers @ root)).eigenvectors.flip(1).T[: width - narrower]
    values[:, narrower : narrower + len(leading)] = leading @ inverse @ together * root.diagonal().mean()
    return torch.stack([queries, keys, values])


def _moments(block: PlainBlock, streams: Streams) -> tuple[Tensor, Tensor]:
    """Return mean ``(d,)`` and second moment ``(d, d)`` of what the student's attention reads, in float64."""
    width, device = streams.basis.shape[0], streams.basis.device
    total, sums, squares = (
        torch.zeros(shape, dtype=torch.float64, device=device) for shape in ((), width, (width, width))
    )
    for pair in streams:
        read = block.norm1(pair.student)
        weights, rows = token_weights(read, streams.prefix).double(), read.flatten(0, 1).double()
        total = total + weights.sum()
        sums = sums + weights @ rows
        squares = squares + (weights[:, None] * rows).T @ rows
    return sums / total, squares / total


def _roots(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root of a positive semidefinite matrix and its pseudoinverse."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp_min(0)
    roots = values.sqrt()
    inverse = torch.where(values > 1e-10 * values.max(), 1 / roots.clamp_min(1e-30), torch.zeros_like(roots))
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T
