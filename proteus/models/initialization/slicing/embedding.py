"""The student's embeddings of patches, positions and prefix tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.initialization.slicing.streams import without_registers
from proteus.models.initialization.slicing.vits import PlainViT, RotaryViT, SliceableViT, prefix_tokens


def slice_embedding(
    student: SliceableViT,
    source: SliceableViT,
    scale: Tensor,
    shift: Tensor,
    basis: Tensor,
    batches: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Set the embeddings so that the stream begins as the teacher's projected one.

    That is exact, except after a LayerNorm before the teacher's first block (CLIP's). A student with such a norm gets
    the gains that fit best; in one without, the embedding of the patches is fitted by least squares. Rotary positions
    are not in the stream.

    Args:
        student: What is set.
        source: The teacher in float32.
        scale: ``(1, 3, 1, 1)``: the teacher sees ``scale * x + shift`` where the student sees ``x``.
        shift: Likewise.
        basis: ``(d, D)``.
        batches: The same images, normalised for the student and for the teacher.
    """
    if isinstance(student, RotaryViT) or isinstance(source, RotaryViT):
        student.vit.patch_embed.proj.bias.copy_(_project_patches(student.vit, source.vit, scale, shift, basis))
        _set_prefix(student.vit, prefix_tokens(source.vit) @ basis.T)
    elif isinstance(source.vit.norm_pre, nn.Identity):
        _project(student, source, scale, shift, basis)
    elif isinstance(student.vit.norm_pre, nn.Identity):
        _fit_patches(student, source, basis, batches)
    else:
        _project(student, source, scale, shift, basis)
        _fit_norm(student, source, basis, batches)


def _project_patches(ours: Any, theirs: Any, scale: Tensor, shift: Tensor, basis: Tensor) -> Tensor:
    """Set what reads the pixels, and return what all patches share, ``(d,)``."""
    kernel, bias = theirs.patch_embed.proj.weight, theirs.patch_embed.proj.bias
    constant = (kernel * shift).sum((1, 2, 3))
    ours.patch_embed.proj.weight.copy_(torch.einsum("ed,dchw->echw", basis, kernel * scale))
    return basis @ (constant if bias is None else bias + constant)


def _project(student: PlainViT, source: PlainViT, scale: Tensor, shift: Tensor, basis: Tensor) -> None:
    ours, theirs = student.vit, source.vit
    constant = _project_patches(ours, theirs, scale, shift, basis)
    positions = source.positions(student.grid)
    if (ours.no_embed_class, ours.num_reg_tokens) == (theirs.no_embed_class, theirs.num_reg_tokens):
        ours.cls_token.copy_(theirs.cls_token @ basis.T)
        if ours.reg_token is not None:
            ours.reg_token.copy_(theirs.reg_token @ basis.T)
        _set_positions(student, positions @ basis.T, constant)
        return
    # One has positions for its prefix tokens and the other has not: they become a part of the tokens.
    count = student.grid[0] * student.grid[1]
    prefix = prefix_tokens(theirs)
    own, positions = positions[:, :-count], positions[:, -count:]
    _set_prefix(ours, (prefix + own if own.shape[1] else prefix) @ basis.T)
    _set_positions(student, positions @ basis.T, constant)


def _fit_norm(student: PlainViT, source: PlainViT, basis: Tensor, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Fit gain and bias of the student's norm before the blocks, each coordinate by itself."""
    norm = student.vit.norm_pre
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    prefix, extra = student.vit.num_prefix_tokens, source.vit.num_prefix_tokens - student.vit.num_prefix_tokens
    found, wanted = [], []
    for ours, theirs in batches:
        found.append(student.embed(ours).flatten(0, 1))
        tokens = source.embed(theirs)
        wanted.append((without_registers(tokens, prefix, extra) @ basis.T).flatten(0, 1))
    x, y = torch.cat(found), torch.cat(wanted)
    spread = x - x.mean(0)
    gain = (spread * y).sum(0) / spread.square().sum(0).clamp_min(1e-12)
    norm.weight.copy_(gain)
    norm.bias.copy_(y.mean(0) - gain * x.mean(0))


def _fit_patches(student: PlainViT, source: PlainViT, basis: Tensor, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Predict the teacher's normalised patches from pixels and from its positions."""
    ours, size = student.vit, student.patch_size
    count = student.grid[0] * student.grid[1]
    layout = source.positions(student.grid)[:, -count:] - source.vit.pos_embed.mean()
    layout = layout / layout.std().clamp_min(1e-6)  # as large as normalised pixels, for the ridge
    first = source.embed(batches[0][1][:1])
    _set_prefix(ours, first @ basis.T)  # the same in every image
    inputs = 3 * size * size
    fit = LeastSquares(inputs + layout.shape[-1], len(basis), basis.device)
    for images, seen in batches:
        tokens = source.embed(seen)
        pixels = F.unfold(images, size, stride=size).transpose(1, 2)
        rows = torch.cat([pixels, layout.expand(len(images), -1, -1)], dim=-1)
        fit.add(rows.flatten(0, 1), (tokens[:, source.vit.num_prefix_tokens :] @ basis.T).flatten(0, 1))
    weight, bias = fit.solve(ridge=fit.best_ridge())
    ours.patch_embed.proj.weight.copy_(weight[:, :inputs].unflatten(1, (3, size, size)))
    _set_positions(student, layout @ weight[:, inputs:].T, bias)


def _set_prefix(ours: Any, tokens: Tensor) -> None:
    """Set cls token and registers from the first of tokens ``(1, P, d)``."""
    ours.cls_token.copy_(tokens[:, :1])
    if ours.reg_token is not None:
        ours.reg_token.copy_(tokens[:, 1 : ours.num_prefix_tokens])


def _set_positions(student: PlainViT, positions: Tensor, constant: Tensor) -> None:
    """Set positions ``(1, P + N, d)``, zero for the prefix tokens that have none, and what all patches share."""
    ours = student.vit
    lacking = ours.pos_embed.shape[1] - positions.shape[1]
    if lacking:
        positions = torch.cat([positions.new_zeros(1, lacking, positions.shape[2]), positions], dim=1)
    ours.pos_embed.copy_(positions)
    if ours.patch_embed.proj.bias is not None:
        ours.patch_embed.proj.bias.copy_(constant)
    else:
        ours.pos_embed[:, -student.grid[0] * student.grid[1] :] += constant
