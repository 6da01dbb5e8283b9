"""Make a student a slice of its teacher, block by block."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from proteus.models.backbones import TimmBackbone, ViT
from proteus.models.initialization.slicing.attention import slice_attention
from proteus.models.initialization.slicing.basis import principal_basis, sliced_norm
from proteus.models.initialization.slicing.blocks import evenly_spaced_blocks
from proteus.models.initialization.slicing.checks import check_slice
from proteus.models.initialization.slicing.embedding import slice_embedding
from proteus.models.initialization.slicing.mlp import slice_mlp
from proteus.models.initialization.slicing.streams import StreamPair, Streams
from proteus.models.initialization.slicing.vits import SliceableViT, sliceable, timm_vit
from proteus.models.teachers import Teacher

# Images that choose the coordinates. Their second moment needs fewer than the layers' regressions do.
_BASIS_IMAGES = 512

OnBlock = Callable[[int, int, float], None]
OnBasis = Callable[[Tensor], None]


@torch.no_grad()
def slice_teacher(
    student: ViT | TimmBackbone,
    teacher: Teacher,
    images: Tensor,
    batch_size: int = 32,
    blocks: Sequence[int] | None = None,
    on_block: OnBlock | None = None,
    on_basis: OnBasis | None = None,
) -> list[float]:
    """Make a student of its teacher's principal directions, attention heads and hidden units.

    The residual stream is cut to its leading principal components, and each weight is turned into their coordinates, as
    in SliceGPT (Ashkboos et al., 2024, section 3). Of each block those heads and hidden units stay without which the
    fitting error would rise most, and the layers that write to the stream are then fitted by least squares: the
    student's stream comes as near to the projection of the teacher's as it can, whatever the blocks before have lost.
    The coordinates are those in which the gains of the teacher's last LayerNorm become gains of the student's, so that
    distances between outputs are kept; its bias puts the mean cls token of the images at zero. The last layer of each
    block answers also for the blocks of the teacher that were left out after it; where the student has more blocks, its
    last ones write nothing to the stream at first.

    Student and teacher may differ in what :func:`check_slice` allows: registers that the student lacks are left out,
    gated MLPs become plain ones and the reverse, a LayerNorm before the blocks becomes a part of the embedding, and
    heads get another width. With rotary positions (DINOv3, in both) heads keep theirs.

    Args:
        student: What is filled, in any float dtype. Its mask token, which a teacher does not have, becomes the mean of
            the patches.
        teacher: Its backbone has the student's patch size and is at least as wide. It sees the images at the size of
            the student's.
        images: ``(B, 3, H, W)``, normalised for the student, to fit on; a few hundred do. See
            :func:`~proteus.models.initialization.noise_images` for a fit without data.
        batch_size: Images that are encoded at a time. The streams of all of them stay in memory:
            ``4 B N (D_teacher + D_student)`` bytes.
        blocks: The teacher's blocks that the student's first ones are made of, ascending from 0; by default as many as
            both have, evenly spaced.
        on_block: Called after each block with its number from 1, the number of blocks, and its error.
        on_basis: Called with the matrix ``(d, D)`` that maps the teacher's stream to the student's coordinates.

    Returns:
        For each block that has one of the teacher's the squared error of its stream over the variance of the teacher's
        projected one, on these images: 0 is exact, and 1 no better than the mean.

    Raises:
        ValueError: Student and teacher do not fit each other; the message says in what.
    """
    check_slice(student, teacher)
    place = timm_vit(student).cls_token
    images = images.to(place.device, torch.float32)
    fitted = student if place.dtype == torch.float32 else copy.deepcopy(student).float()
    training = fitted.training
    fitted.eval()
    errors = _fit(fitted, teacher, images.split(batch_size), blocks, on_block, on_basis)
    fitted.train(training)
    if fitted is not student:
        student.load_state_dict(fitted.state_dict())
    return errors


def _fit(
    backbone: ViT | TimmBackbone,
    teacher: Teacher,
    batches: Sequence[Tensor],
    blocks: Sequence[int] | None,
    on_block: OnBlock | None,
    on_basis: OnBasis | None,
) -> list[float]:
    device = batches[0].device
    # 1. the teacher, and the same images as each of the two sees them
    size = batches[0].shape[-2:]
    student = sliceable(backbone, size)
    source = sliceable(copy.deepcopy(teacher.backbone).to(device).float(), size)
    scale, shift = teacher.scale.to(device), teacher.shift.to(device)
    seen = [torch.addcmul(shift, batch, scale) for batch in batches]
    both = list(zip(batches, seen, strict=True))
    # 2. coordinates
    width = student.vit.embed_dim
    prefix = student.vit.num_prefix_tokens
    extra = source.vit.num_prefix_tokens - prefix
    if _has_first_norm(student) and width == source.vit.embed_dim:
        basis = torch.eye(width, device=device)  # in which the gains of that norm are the teacher's
    else:
        gains = (source.vit.norm_pre if _has_first_norm(student) else source.vit.norm).weight
        every = math.ceil(sum(map(len, batches)) / _BASIS_IMAGES)
        few = [batch[::every] for batch in seen]
        basis = principal_basis(source, few, width, gains, prefix, extra)
    if on_basis is not None:
        on_basis(basis)
    # 3. embeddings
    slice_embedding(student, source, scale, shift, basis, both)
    if student.mask_token is not None:
        patches = torch.stack([student.patches(ours).mean((0, 1)) for ours in batches])
        student.mask_token.copy_(patches.mean(0, keepdim=True))
    pairs = [StreamPair(student.embed(ours), source.embed(theirs)) for ours, theirs in both]
    streams = Streams(pairs, basis, prefix, extra)
    # 4. blocks
    depth = len(source.blocks)
    first = list(blocks) if blocks is not None else evenly_spaced_blocks(depth, min(len(student.blocks), depth))
    errors = []
    for k, block in enumerate(student.blocks[: len(first)]):
        original, *left_out = source.blocks[first[k] : [*first, depth][k + 1]]
        slice_attention(block, original, streams)
        slice_mlp(block, original, left_out, streams)
        errors.append(streams.unexplained())
        if on_block is not None:
            on_block(k + 1, len(first), errors[-1])
    for block in student.blocks[len(first) :]:
        block.silence()
    # 5. output
    sliced_norm(student.vit.norm, source.vit.norm, torch.cat([pair.student[:, 0] for pair in streams]), basis)
    return errors


def _has_first_norm(vit: SliceableViT) -> bool:
    return not isinstance(vit.vit.norm_pre, nn.Identity)
