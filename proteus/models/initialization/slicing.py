"""A small ViT's first weights as a slice of its teacher, fitted on images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, LayerScale
from torch import Tensor, nn

from proteus.models.backbones import ViT, interpolate_pos_embed
from proteus.models.initialization.least_squares import LeastSquares
from proteus.models.teachers import Teacher

# Weight of the cls token (and registers): one token in hundreds, but most evaluations read it.
_CLS_SHARE = 0.25


@torch.no_grad()
def slice_teacher(student: ViT, teacher: Teacher, images: Tensor, batch_size: int = 32) -> list[float]:
    """Make a student of its teacher's principal directions, attention heads and hidden units.

    The residual stream is cut to its leading principal components, and each weight is turned into their coordinates, as
    in SliceGPT (Ashkboos et al., 2024, section 3). Here the stream has one more coordinate, in which it is always zero,
    so that LayerNorm's own centring changes nothing. Of each block those heads and hidden units stay without which most
    would be missed, and the layers that write to the stream are then fitted by least squares: the student's stream
    comes as near to the projection of the teacher's as it can, whatever the blocks before have lost. The coordinates
    are those in which the gains of the teacher's last LayerNorm become gains of the student's, so that distances
    between outputs are kept; its bias puts the mean cls token of the images at zero. A student of fewer blocks takes
    evenly spaced ones, and the last layer of each answers also for the blocks that were left out; where the student has
    more, its last blocks write nothing to the stream at first.

    Args:
        student: What is filled. Its mask token, which a teacher does not have, becomes the mean of the patches.
        teacher: Its backbone is a plain pre-norm ViT of the same patch size, head width and number of registers, at
            least as wide as the student.
        images: ``(B, 3, H, W)``, normalised for the student, to fit on; a few hundred do.
        batch_size: Images that are encoded at a time. The streams of all of them stay in memory:
            ``4 B N (D_teacher + D_student)`` bytes.

    Returns:
        For each block that has one of the teacher's the squared error of its stream over the variance of the teacher's
        projected one, on these images: 0 is exact, and 1 no better than the mean.

    Raises:
        ValueError: Student and teacher do not fit each other; the message says in what.
    """
    check_slice(student, teacher)
    source = copy.deepcopy(teacher.backbone).float()
    batches = [(batch, torch.addcmul(teacher.shift, batch, teacher.scale)) for batch in images.split(batch_size)]
    basis = _basis(source, [seen for _, seen in batches], student.embed_dim)
    _slice_embedding(student, source, teacher, basis)
    if student.mask_token is not None:
        patches = torch.stack([student.patches(ours)[0].mean((0, 1)) for ours, _ in batches])
        student.mask_token.copy_(patches.mean(0, keepdim=True))
    slices = [_Streams(student.embed(ours)[0], source.embed(theirs)[0]) for ours, theirs in batches]
    sliced = min(student.depth, source.depth)
    first = [source.depth * k // sliced for k in range(sliced + 1)]
    errors = []
    for k, block in enumerate(student.vit.blocks[:sliced]):
        original, *left_out = source.vit.blocks[first[k] : first[k + 1]]
        _slice_attention(block, original, slices, basis, student.vit.num_prefix_tokens)
        _slice_mlp(block, original, left_out, slices, basis, student.vit.num_prefix_tokens)
        errors.append(_error(slices, basis))
    for block in student.vit.blocks[sliced:]:
        _silence(block)
    _slice_norm(student.vit.norm, source.vit.norm, slices, basis)
    return errors


def check_slice(student: Any, teacher: Any) -> None:
    """Whether a student can be a slice of a teacher.

    Raises:
        ValueError: It cannot; the message says why.
    """
    given = getattr(teacher, "backbone", None)
    if not isinstance(student, ViT) or not isinstance(given, ViT):
        raise ValueError(
            f"a sliced initialization makes a ViT out of a ViT; model.student is {type(student).__name__} and "
            f"model.teacher.backbone {type(given).__name__}"
        )
    if teacher.sharded or teacher.img_size not in (None, student.img_size):
        raise ValueError(
            "a sliced initialization needs an unsharded teacher with the student's image size: set "
            "model.teacher.shard=False and model.teacher.img_size=None"
        )
    for vit, key in ((student.vit, "student"), (given.vit, "teacher.backbone")):
        block = vit.blocks[0]
        plain = isinstance(vit.norm_pre, nn.Identity) and isinstance(block.attn.q_norm, nn.Identity)
        if not plain or block.mlp.fc1.out_features != block.mlp.fc2.in_features or vit.patch_embed.proj.bias is None:
            raise ValueError(
                f"model.{key}: a sliced initialization supports no norm before the blocks, no norm of queries, no "
                "gated MLP and no patch embedding without bias"
            )
    for name, own, other in _sizes(student, given, ("patch_size", "reg_tokens", "width of a head")):
        if own != other:
            raise ValueError(
                f"a sliced initialization keeps the teacher's {name}, {other}, and model.student has {own}"
            )
    for name, own, other in _sizes(student, given, ("embed_dim", "num_heads", "hidden units")):
        if own > other:
            raise ValueError(f"a slice is no larger than the teacher: {name} is {own} in model.student, there {other}")


def _sizes(student: ViT, teacher: ViT, names: tuple[str, ...]) -> list[tuple[str, int, int]]:
    found = []
    for vit in (student, teacher):
        block = vit.vit.blocks[0]
        found.append(
            {
                "patch_size": vit.patch_size,
                "reg_tokens": vit.vit.num_reg_tokens,
                "width of a head": block.attn.head_dim,
                "embed_dim": vit.embed_dim,
                "num_heads": block.attn.num_heads,
                "hidden units": block.mlp.fc1.out_features,
            }
        )
    return [(name, found[0][name], found[1][name]) for name in names]


class _Streams:
    """The residual streams of some images, ``(B, N, d)`` and ``(B, N, D)``."""

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.student = student
        self.teacher = teacher

    def missing(self, basis: Tensor) -> Tensor:
        """What the student's lacks of the teacher's projected one, ``(B, N, d)``."""
        return self.teacher @ basis.T - self.student


def _basis(source: ViT, batches: list[Tensor], width: int) -> Tensor:
    """``(d, D)``: maps the stream to ``d`` coordinates, and its transpose back."""
    prefix = source.vit.num_prefix_tokens
    size, device = source.embed_dim, batches[0].device
    blocks, output = (torch.zeros(size, size, dtype=torch.float64, device=device) for _ in range(2))
    for images in batches:
        stream, _ = source.embed(images)
        for block in source.vit.blocks:
            for step in (_attend, _transform):
                blocks += _second_moment(stream, prefix)
                stream = stream + step(block, stream)
        output += _second_moment(stream, prefix)
    # What comes out is all that anyone sees: it counts as much as what all layers read.
    moment = blocks / (2 * source.depth) + output
    # What LayerNorm hands on is centred, so that nothing lies along the ones, but for rounding.
    ones = torch.full((size, 1), size**-0.5, dtype=moment.dtype, device=device)
    leading = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, : width - 1]
    directions = torch.linalg.qr(leading - ones @ (ones.T @ leading)).Q
    # Turned so that the gains of the teacher's last norm become gains of the student's.
    gains = source.vit.norm.weight.double()[:, None] * directions
    turned = directions @ torch.linalg.eigh(gains.T @ gains).eigenvectors
    return (_orthogonal_to_ones(width, moment) @ turned.T).float()


def _second_moment(stream: Tensor, prefix: int) -> Tensor:
    read = F.layer_norm(stream, stream.shape[-1:])
    weights = _token_weights(read, prefix)[:, None]
    rows = read.flatten(0, 1)
    return ((weights * rows).T @ rows).double()


def _orthogonal_to_ones(width: int, like: Tensor) -> Tensor:
    """``(d, d - 1)``: orthonormal columns, each of which sums to zero and is nearly a unit vector (Householder's)."""
    normal = torch.full((width, 1), width**-0.5, dtype=like.dtype, device=like.device)
    normal[-1] -= 1
    identity = torch.eye(width, dtype=like.dtype, device=like.device)
    return (identity - 2 * normal @ normal.T / normal.square().sum())[:, :-1]


def _silence(block: Block) -> None:
    """Write nothing to the stream: the block is the identity, and learns from the first gradient on."""
    for layer in (block.attn.proj, block.mlp.fc2):
        _write(layer, torch.zeros_like(layer.weight), layer.weight.new_zeros(len(layer.weight)))


def _slice_norm(norm: nn.LayerNorm, original: nn.LayerNorm, slices: list[_Streams], basis: Tensor) -> None:
    """The teacher's metric, and zero for the mean cls token: what all images share would drown their cosines."""
    norm.weight.copy_((basis.square() @ original.weight.square()).sqrt())
    nn.init.zeros_(norm.bias)
    norm.bias.copy_(-norm(torch.cat([each.student[:, 0] for each in slices])).mean(0))


def _slice_embedding(student: ViT, source: ViT, teacher: Teacher, basis: Tensor) -> None:
    ours, theirs = student.vit, source.vit
    # The teacher sees scale * x + shift where the student sees x.
    kernel, bias = theirs.patch_embed.proj.weight, theirs.patch_embed.proj.bias
    ours.patch_embed.proj.weight.copy_(torch.einsum("ed,dchw->echw", basis, kernel * teacher.scale))
    ours.patch_embed.proj.bias.copy_(basis @ (bias + (kernel * teacher.shift).sum((1, 2, 3))))
    positions = interpolate_pos_embed(
        theirs.pos_embed, source.grid, student.grid, source.interpolate_antialias, source.interpolate_offset
    )
    ours.pos_embed.copy_(positions @ basis.T)
    ours.cls_token.copy_(theirs.cls_token @ basis.T)
    if ours.reg_token is not None:
        ours.reg_token.copy_(theirs.reg_token @ basis.T)


def _slice_attention(block: Block, original: Block, slices: list[_Streams], basis: Tensor, prefix: int) -> None:
    ours, theirs = block.attn, original.attn
    inputs = theirs.num_heads * theirs.head_dim
    weight, bias = _reader(theirs.qkv, original.norm1, slices, basis)
    _plain(block.norm1, block.ls1)
    fit = LeastSquares(inputs, ours.proj.out_features, weight.device)
    for each in slices:
        qkv = F.linear(block.norm1(each.student), weight, bias)
        q, k, v = qkv.unflatten(-1, (3, theirs.num_heads, theirs.head_dim)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        each.teacher = each.teacher + _attend(original, each.teacher)
        _add(fit, heads, each.missing(basis), prefix)
    chosen = fit.best_groups(theirs.head_dim, ours.num_heads)
    rows = torch.cat([part * inputs + chosen for part in range(3)])
    _write(ours.qkv, weight[rows], bias[rows])
    _write(ours.proj, *fit.solve(chosen))
    for each in slices:
        each.student = each.student + _attend(block, each.student)


def _slice_mlp(
    block: Block, original: Block, left_out: list[Block], slices: list[_Streams], basis: Tensor, prefix: int
) -> None:
    ours, theirs = block.mlp, original.mlp
    weight, bias = _reader(theirs.fc1, original.norm2, slices, basis)
    _plain(block.norm2, block.ls2)

    def hidden(each: _Streams, units: Tensor | slice = slice(None)) -> Tensor:
        return theirs.act(F.linear(block.norm2(each.student), weight[units], bias[units]))

    # How much of the stream's variance a unit writes by itself; trying them one by one takes too long for thousands.
    writes = theirs.fc2.weight.T * getattr(original.ls2, "gamma", 1.0)
    written = _variances((hidden(each) for each in slices), prefix) * (writes @ basis.T).square().sum(1)
    chosen = written.topk(ours.fc1.out_features).indices.sort().values
    fit = LeastSquares(len(chosen), ours.fc2.out_features, weight.device)
    for each in slices:
        each.teacher = each.teacher + _transform(original, each.teacher)
        for other in left_out:
            each.teacher = each.teacher + _attend(other, each.teacher)
            each.teacher = each.teacher + _transform(other, each.teacher)
        _add(fit, hidden(each, chosen), each.missing(basis), prefix)
    _write(ours.fc1, weight[chosen], bias[chosen])
    _write(ours.fc2, *fit.solve())
    for each in slices:
        each.student = each.student + _transform(block, each.student)


def _reader(layer: nn.Linear, norm: nn.LayerNorm, slices: list[_Streams], basis: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that reads the teacher's normalised stream, to read the student's instead."""
    # Each LayerNorm divides by its own stream's deviation; the student's has less of it, in fewer entries.
    ours = torch.cat([each.student.std(-1).flatten() for each in slices]).mean()
    theirs = torch.cat([each.teacher.std(-1).flatten() for each in slices]).mean()
    weight = ours / theirs * (layer.weight * norm.weight) @ basis.T
    bias = layer.weight @ norm.bias
    return weight, bias if layer.bias is None else bias + layer.bias


def _add(fit: LeastSquares, inputs: Tensor, outputs: Tensor, prefix: int) -> None:
    fit.add(inputs.flatten(0, 1), outputs.flatten(0, 1), _token_weights(outputs, prefix))


def _variances(batches: Iterable[Tensor], prefix: int) -> Tensor:
    """Of each entry of tokens ``(B, N, D)``, ``(D,)``."""
    images, moments = 0, []
    for tokens in batches:
        weights, rows = _token_weights(tokens, prefix), tokens.flatten(0, 1)
        moments.append(torch.stack([weights @ rows, weights @ rows.square()]))
        images += len(tokens)
    mean, square = torch.stack(moments).sum(0) / images
    return square - mean.square()


def _token_weights(tokens: Tensor, prefix: int) -> Tensor:
    """What each of ``(B, N, D)`` counts, ``(B * N,)``; an image counts 1."""
    images, count, _ = tokens.shape
    weights = tokens.new_full((images, count), (1 - _CLS_SHARE) / (count - prefix))
    weights[:, :prefix] = _CLS_SHARE / prefix
    return weights.flatten()


def _attend(block: Block, stream: Tensor) -> Tensor:
    return block.ls1(block.attn(block.norm1(stream)))


def _transform(block: Block, stream: Tensor) -> Tensor:
    return block.ls2(block.mlp(block.norm2(stream)))


def _plain(norm: nn.LayerNorm, scale: nn.Module | None = None) -> None:
    """Gain 1, bias 0 and LayerScale 1: those of the teacher are in the weights."""
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    if isinstance(scale, LayerScale):
        nn.init.ones_(scale.gamma)


def _write(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(bias)


def _error(slices: list[_Streams], basis: Tensor) -> float:
    wanted = torch.cat([each.teacher @ basis.T for each in slices])
    missing = torch.cat([each.missing(basis) for each in slices])
    return (missing.square().sum() / (wanted - wanted.mean((0, 1))).square().sum()).item()
