"""The student's attention: heads of the teacher, and a fitted output projection."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing.head_widths import resized_heads
from proteus.models.initialization.slicing.layers import Reader, plain, write
from proteus.models.initialization.slicing.streams import Streams, attend


def slice_attention(block: Block, original: Block, streams: Streams) -> None:
    """Take the heads without which the fitting error would rise most, and fit the projection of what they give.

    Afterwards both streams include what the attention writes.

    Args:
        block: The student's block.
        original: The teacher's block.
        streams: The streams as they enter the block.
    """
    ours, theirs = block.attn, original.attn
    width, count = ours.head_dim, theirs.num_heads
    plain(block.norm1, block.ls1)
    weight, bias = Reader(block.norm1, original.norm1, streams).sliced(theirs.qkv.weight, theirs.qkv.bias)
    if width != theirs.head_dim:
        weight, bias, count = resized_heads(block, original, weight, bias, streams)
    _copy_norms(ours, theirs)
    inputs = count * width
    fit = LeastSquares(inputs, ours.proj.out_features, weight.device)
    for pair in streams:
        qkv = F.linear(block.norm1(pair.student), weight, bias)
        q, k, v = qkv.unflatten(-1, (3, count, width)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(ours.q_norm(q), ours.k_norm(k), v).transpose(1, 2).flatten(2)
        pair.teacher = pair.teacher + attend(original, pair.teacher)
        streams.add(fit, heads, streams.missing(pair))
    chosen = fit.best_groups(width, ours.num_heads)
    rows = torch.cat([part * inputs + chosen for part in range(3)])
    write(ours.qkv, weight[rows], bias[rows])
    write(ours.proj, *fit.solve(chosen))
    streams.run_student(block, attend)


def _copy_norms(ours: Any, theirs: Any) -> None:
    """Copy the norms of queries and keys, which work within a head."""
    for norm, given in ((ours.q_norm, theirs.q_norm), (ours.k_norm, theirs.k_norm)):
        if isinstance(norm, nn.LayerNorm):
            norm.load_state_dict(given.state_dict())
