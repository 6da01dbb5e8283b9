"""The residual stream of the student, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast
from torch import Tensor

from proteus.models.objectives.objective import Objective, StepFeatures
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number
from proteus.utils.precision import no_autocast
from proteus.utils.principal_basis import basis_of_moment

_EPS = 1e-6


@MODELS.register_module()
class HiddenStatesObjective(Objective):
    """Match the student's residual stream after each block to the teacher's, projected to the student's width.

    With ``s_k`` the student's token after block ``k`` and ``t_k`` the teacher's after the block at the same relative
    depth, the error of a token is ``|s_k - P t_k|^2 / |t_k - mean(t_k)|^2``: relative to what the teacher's next
    LayerNorm divides by. The term is its mean over blocks, images and tokens.

    ``P`` ``(Ds, Dt)`` is not trained: the leading principal directions of the teacher's stream. ``SlicedInitHook`` sets
    it to the coordinates of its slice; otherwise the first training step computes it from its batch, with micro-batches
    from the first part of it. It is saved in checkpoints. The objective has no head, so it costs little. Each block has
    its own target, which FitNets call a hint (Romero et al. 2015, arXiv 1412.6550).

    Args:
        student_dim: Width of the student's tokens; the distiller fills it in.
        teacher_dim: Width of the teacher's tokens; the distiller fills it in.
        weight: Factor of the term in the total loss.
        cls_share: Weight of the cls token among the tokens of an image; the patches share the rest.

    Raises:
        ValueError: The student is wider than the teacher, or ``cls_share`` is not a fraction.
    """

    needs_hidden_states = True
    basis: Tensor

    def __init__(self, student_dim: int, teacher_dim: int, weight: float = 1.0, cls_share: float = 0.25) -> None:
        super().__init__(student_dim, teacher_dim, weight, head={"type": torch.nn.Identity})
        if student_dim > teacher_dim:
            raise ValueError(
                f"HiddenStatesObjective: the student's width {student_dim} is above the teacher's {teacher_dim}: "
                "remove the objective, or take a smaller student"
            )
        self.cls_share = check_number("cls_share", cls_share, 0, 1)
        # All zeros until it is set.
        self.register_buffer("basis", torch.zeros(student_dim, teacher_dim))
        self._is_set = False  # on the host, which would wait for the device in each step; False: to be read

    def set_basis(self, basis: Tensor) -> None:
        """Set ``P``, ``(Ds, Dt)``."""
        self.basis.copy_(basis)

    def forward(self, step: StepFeatures, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the mean relative error."""
        student = step.student_hidden
        teacher = [step.teacher_hidden[k] for k in matching_blocks(len(student), len(step.teacher_hidden))]
        if self.training and not self._is_set and not self.basis.is_meta:
            if not self.basis.any():
                with no_autocast(self.basis.device):
                    self.set_basis(_basis_of(teacher, len(self.basis)))
                broadcast(self.basis)  # eigenvectors may differ between processes
            self._is_set = True
        errors = [self._error(own, target) for own, target in zip(student, teacher, strict=True)]
        return torch.stack(errors).mean()

    def compared_tokens(self, step: StepFeatures) -> list[tuple[Tensor, Tensor]] | None:
        """Return None: the blocks have no predictions of the teacher's output."""
        return None

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._is_set = False

    def _error(self, student: Features, teacher: Features) -> Tensor:
        cls = _relative_error(student.cls, teacher.cls, self.basis)
        patches = _relative_error(student.patches, teacher.patches, self.basis)
        return self.cls_share * cls + (1 - self.cls_share) * patches


def matching_blocks(student: int, teacher: int) -> list[int]:
    """Return the teacher's block at the depth of each block of the student, counted from 0.

    A deeper student has the teacher's last block as the target of its last blocks, as in the sliced initialization.
    """
    ours = min(student, teacher)
    spaced = [teacher * (k + 1) // ours - 1 for k in range(ours)]
    return spaced + [teacher - 1] * (student - ours)


def _relative_error(student: Tensor, teacher: Tensor, basis: Tensor) -> Tensor:
    with no_autocast(student.device):
        target = teacher.float() @ basis.T
        size = (teacher.float().var(-1, correction=0) * teacher.shape[-1]).clamp(min=_EPS)
        return ((student.float() - target).square().sum(-1) / size).mean()


@torch.no_grad()
def _basis_of(teacher: Sequence[Features], width: int) -> Tensor:
    """Return the leading principal directions of the normalised streams of all ranks, ``(Ds, Dt)``."""
    moment = torch.zeros(())
    for features in teacher:
        tokens = torch.cat([features.cls[:, None], features.patches], dim=1).flatten(0, 1)
        rows = torch.nn.functional.layer_norm(tokens.float(), tokens.shape[-1:])
        moment = moment.to(rows.device) + (rows.T @ rows).double()
    all_reduce(moment)
    return basis_of_moment(moment, width)
