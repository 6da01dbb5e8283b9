"""The student's MLP: hidden units of the teacher, and a fitted last layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing.hidden_units import (
    activate,
    as_gated,
    branches_of,
    kind_of,
    unit_count,
    write_branches,
)
from proteus.models.initialization.slicing.layers import Reader, plain, write, writer
from proteus.models.initialization.slicing.streams import StreamPair, Streams, variances
from proteus.models.initialization.slicing.vits import PlainBlock

# Plain units in the place of gated ones are chosen in this many rounds, each by what the rounds before have left.
_ROUNDS = 4

Branches = list[tuple[Tensor, Tensor]]


def slice_mlp(block: PlainBlock, original: PlainBlock, left_out: Sequence[PlainBlock], streams: Streams) -> None:
    """Take the hidden units that matter most, and fit what they write.

    They answer also for the teacher's blocks that the student has no block for. Afterwards both streams include what
    the MLP writes.

    Args:
        block: The student's block.
        original: The teacher's block.
        left_out: The teacher's blocks after it that have no block of the student.
        streams: The streams as they enter the MLP.
    """
    ours, theirs = block.mlp, original.mlp
    plain(block.norm2, block.scale2)
    reader = Reader(block.norm2, original.norm2, streams)
    given = [reader.sliced(*branch) for branch in branches_of(theirs)]
    for pair in streams:
        pair.teacher = pair.teacher + original.transform(pair.teacher)
        for other in left_out:
            pair.teacher = pair.teacher + other.attend(pair.teacher)
            pair.teacher = pair.teacher + other.transform(pair.teacher)
    if kind_of(theirs) == "gated" and kind_of(ours) == "plain":
        chosen = _plain_units(block, given, streams)
    else:
        chosen = _strongest_units(block, original, given, streams)
        if kind_of(theirs) == "plain" and kind_of(ours) == "gated":
            chosen = as_gated(chosen[0], ours)
    write(ours.fc2, *_fit(block, chosen, streams).solve())
    write_branches(ours, chosen, block.norm2)
    streams.run_student(block.transform)


def _hidden(block: PlainBlock, branches: Branches, pair: StreamPair, mlp: nn.Module | None = None) -> Tensor:
    """Return hidden units ``(B, N, H)`` that read the student's stream."""
    read = block.norm2(pair.student)
    return activate(mlp or block.mlp, [F.linear(read, weight, bias) for weight, bias in branches])


def _fit(block: PlainBlock, branches: Branches, streams: Streams) -> LeastSquares:
    fit = LeastSquares(len(branches[0][0]), block.mlp.fc2.out_features, streams.basis.device)
    for pair in streams:
        streams.add(fit, _hidden(block, branches, pair), streams.missing(pair))
    return fit


def _strongest_units(block: PlainBlock, original: PlainBlock, given: Branches, streams: Streams) -> Branches:
    """Choose the units that write most of the stream's variance, each by itself."""
    # Trying them one by one, as heads are, takes too long for thousands.
    writes = writer(original.mlp.fc2, original.scale2).T
    hidden = (_hidden(block, given, pair, original.mlp) for pair in streams)
    written = variances(hidden, streams.prefix) * (writes @ streams.basis.T).square().sum(1)
    units = written.topk(unit_count(block.mlp)).indices.sort().values
    return [(weight[units], bias[units]) for weight, bias in given]


def _plain_units(block: PlainBlock, given: Branches, streams: Streams) -> Branches:
    """Choose plain units that explain what gated ones write.

    Candidates read what gates and values read, their sums and their differences: a product is a difference of squares.
    """
    (gates, gate_biases), (values, value_biases) = given
    weight = torch.cat([gates, values, gates + values, gates - values])
    bias = torch.cat([gate_biases, value_biases, gate_biases + value_biases, gate_biases - value_biases])
    count = unit_count(block.mlp)
    units = torch.zeros(0, dtype=torch.long, device=weight.device)
    for number in range(1, _ROUNDS + 1):
        explained = _explained(block, (weight, bias), units, streams)
        explained[units] = -1.0
        best = explained.topk(count * number // _ROUNDS - len(units)).indices
        units = torch.cat([units, best])
    return [(weight[units], bias[units])]


def _explained(block: PlainBlock, candidates: tuple[Tensor, Tensor], units: Tensor, streams: Streams) -> Tensor:
    """Return what each candidate, by itself, explains of what the chosen ``units`` leave, ``(C,)``."""
    weight, bias = candidates
    solved = None
    if len(units):
        solved = _fit(block, [(weight[units], bias[units])], streams).solve()
    outputs = block.mlp.fc2.out_features
    total, sums, squares = (weight.new_zeros(shape) for shape in ((), len(weight), len(weight)))
    products, left_sum = weight.new_zeros(len(weight), outputs), weight.new_zeros(outputs)
    for pair in streams:
        hidden = _hidden(block, [candidates], pair)
        left = streams.missing(pair)
        if solved is not None:
            left = left - F.linear(hidden[..., units], *solved)
        weights = streams.weights(left)
        rows, left = hidden.flatten(0, 1), left.flatten(0, 1)
        weighted = rows * weights[:, None]
        total = total + weights.sum()
        sums, squares = sums + weighted.sum(0), squares + (weighted * rows).sum(0)
        products, left_sum = products + weighted.T @ left, left_sum + weights @ left
    shared = products - sums[:, None] * left_sum / total
    return shared.square().sum(1) / (squares - sums.square() / total).clamp_min(1e-8 * total)
