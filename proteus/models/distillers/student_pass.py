"""One pass of a student: clean and masked images in one batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from proteus.structures import Features


class StudentOutput(NamedTuple):
    """What a training step reads of a student.

    Attributes:
        clean: Features of the images, ``(B, ...)``.
        masked: Features of the first ``M`` images with patches masked, if the step has masks.
        hidden: The residual stream after each block, of the clean images, if an objective asks for it.
    """

    clean: Features
    masked: Features | None = None
    hidden: tuple[Features, ...] = ()


def run_student(
    student: Any, images: Tensor, masks: Tensor | None, hidden_states: bool
) -> tuple[Features, Features | None, tuple[Features, ...]]:
    """Encode ``B`` clean images and the first ``M`` of them with masks ``(M, N)``, in one batch."""
    if hidden_states:
        encoded: tuple[Features, Features | None, tuple[Features, ...]]
        encoded = student.encode_with_hidden_states(images, masks)
        return encoded
    if masks is None:
        return student(images), None, ()
    if hasattr(student, "clean_and_masked"):
        return *student.clean_and_masked(images, masks), ()
    batch, masked = len(images), len(masks)
    clean = masks.new_zeros(batch, masks.shape[1])
    both = student(torch.cat([images, images[:masked]]), torch.cat([clean, masks]))
    return both[:batch], both[batch:], ()
