"""A small model's initial weights out of a larger one's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from proteus.checkpoints import CheckpointError, read_state_dict, to_timm_keys
from proteus.models.backbones import ViT
from proteus.registry import MODELS


@MODELS.register_module()
class WeightSelection:
    """Start a ViT from evenly spaced elements of a larger ViT's weights (paper, section A.2; Xu et al., 2023).

    Of each tensor every ``T / S``-th element is taken along each axis, and of the blocks the first ones. What the
    file has beyond the student's names (further blocks, a classifier) is left.

    Args:
        student: The backbone that inherits; the distiller fills it in.
        checkpoint: File with the larger model's weights, in any form that a ``ViT`` loads.

    Raises:
        ValueError: The student is no ViT.
        CheckpointError: The file lacks a weight that the student has, or has one that is smaller.
    """

    def __init__(self, student: ViT, checkpoint: str | Path | None = None) -> None:
        if not isinstance(student, ViT):
            raise ValueError(
                f"init_from.type='WeightSelection' needs a ViT as student; the student is {type(student).__name__}"
            )
        self.student = student
        if checkpoint is not None:
            self.load(checkpoint)

    def load(self, checkpoint: str | Path) -> None:
        """Fill the student; one on the meta device is only compared.

        Raises:
            CheckpointError: See the class.
        """
        state = to_timm_keys(read_state_dict(checkpoint))
        if "pos_embed" in state:
            state = self.student.with_own_positions(state)
        own = self.student.timm_state()
        self._check(state, own, checkpoint)
        chosen = {key: _select(key, state[key], value.shape) for key, value in own.items()}
        if not any(value.is_meta for value in own.values()):
            self.student.vit.load_state_dict(chosen)

    def _check(self, state: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str | Path) -> None:
        missing = [key for key in own if key not in state]
        if missing:
            raise CheckpointError(
                f"{source} lacks {len(missing)} of the student's weights ({', '.join(missing[:3])}, ...): set "
                "arch, init_values and reg_tokens of the student as the larger model has them"
            )
        count, wanted = (weights["pos_embed"].shape[1] for weights in (state, own))
        if count != wanted:  # a selection of them would be those of other patches
            raise CheckpointError(
                f"{source} has {count} positions at the student's img_size, and the student {wanted}: set reg_tokens "
                "of the student as the larger model has them"
            )
        for key, value in own.items():
            given = state[key].shape
            if len(given) != value.ndim or any(t < s for t, s in zip(given, value.shape, strict=True)):
                raise CheckpointError(
                    f"{source}: {key} is {tuple(given)}, and the student's {tuple(value.shape)}; a student can only "
                    "inherit from a model that is at least as large"
                )
        fc1, fc2 = (state[f"blocks.0.mlp.{layer}.weight"].shape for layer in ("fc1", "fc2"))
        if fc1[0] != fc2[1]:
            raise CheckpointError(f"{source} has gated MLPs, which cannot initialise the plain MLPs of the student")


def _select(key: str, weight: Tensor, shape: torch.Size) -> Tensor:
    if ".attn.qkv." not in key:
        return select_evenly(weight, shape)
    # timm keeps queries, keys and values in one matrix; a selection across their borders would mix them.
    part = torch.Size((shape[0] // 3, *shape[1:]))
    return torch.cat([select_evenly(third, part) for third in weight.chunk(3)])


def select_evenly(weight: Tensor, shape: torch.Size) -> Tensor:
    """Take evenly spaced elements along each axis.

    Args:
        weight: Of any shape.
        shape: Wanted, along each axis at most that of ``weight``.

    Returns:
        A tensor of ``shape``.
    """
    for axis, size in enumerate(shape):
        weight = weight.index_select(axis, evenly_spaced(weight.shape[axis], size))
    return weight


def evenly_spaced(larger: int, smaller: int) -> Tensor:
    """Which of ``larger`` elements ``smaller`` ones are taken from.

    Every ``larger / smaller``-th from the first, where that divides; else evenly from the first to the last,
    rounded. (Xu et al.'s code spaces the latter to one past the last element, which does not exist.)

    Returns:
        ``(smaller,)`` int64, ascending.
    """
    if larger % smaller == 0:
        return torch.arange(smaller) * (larger // smaller)
    return torch.linspace(0, larger - 1, smaller).round().long()
