"""The student's attention: heads of the teacher, and a fitted output projection."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing.head_widths import resized_heads
from proteus.models.initialization.slicing.layers import Reader, plain, write
from proteus.models.initialization.slicing.streams import Streams
from proteus.models.initialization.slicing.vits import PlainBlock


def slice_attention(block: PlainBlock, original: PlainBlock, streams: Streams) -> None:
    """Take the heads without which the fitting error would rise most, and fit the projection of what they give.

    A head keeps the teacher's coordinates, in which rotary positions turn its queries and keys. Afterwards both streams
    include what the attention writes.

    Args:
        block: The student's block.
        original: The teacher's block.
        streams: The streams as they enter the block.
    """
    ours, theirs = block.attn, original.attn
    width = ours.head_dim
    plain(block.norm1, block.scale1)
    weight, bias = Reader(block.norm1, original.norm1, streams).sliced(*original.qkv())
    if width != theirs.head_dim:
        weight, bias = resized_heads(block, original, weight, bias, streams)
    _copy_norms(ours, theirs)
    for pair in streams:
        pair.teacher = pair.teacher + original.attend(pair.teacher)
    fit = _fit(block, weight, bias, streams)
    chosen = fit.best_groups(width, ours.num_heads)
    rows = torch.cat([part * len(weight) // 3 + chosen for part in range(3)])
    block.write_qkv(weight[rows], bias[rows])
    write(ours.proj, *fit.solve(chosen))
    streams.run_student(block.attend)


def _fit(block: PlainBlock, weight: Tensor, bias: Tensor, streams: Streams) -> LeastSquares:
    """Fit what the student's stream lacks by what heads give that read it with weight ``(3 P w, d)`` and bias."""
    attention = block.attn
    inputs = len(weight) // 3
    fit = LeastSquares(inputs, attention.proj.out_features, weight.device)
    for pair in streams:
        qkv = F.linear(block.norm1(pair.student), weight, bias)
        q, k, v = qkv.unflatten(-1, (3, -1, attention.head_dim)).permute(2, 0, 3, 1, 4)
        q, k = (block.rotate(norm(part)) for norm, part in ((attention.q_norm, q), (attention.k_norm, k)))
        heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        streams.add(fit, heads, streams.missing(pair))
    return fit


def _copy_norms(ours: Any, theirs: Any) -> None:
    """Copy the norms of queries and keys, which work within a head."""
    for norm, given in ((ours.q_norm, theirs.q_norm), (ours.k_norm, theirs.k_norm)):
        if isinstance(norm, nn.LayerNorm):
            norm.load_state_dict(given.state_dict())
