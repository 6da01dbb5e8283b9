"""Distillation losses for unpaired images and sentences.

README.md gives the source of each formula. Throughout, ``u_i`` are the embeddings of images and ``w_j`` of sentences,
all of length 1, with ``^T`` for the teacher and ``^S`` for the student; ``s`` is the teacher's scale (the exponential
of CLIP's ``logit_scale``), ``B`` and ``N`` are the numbers of images and sentences in a process's batch, and ``tau`` is
a loss's temperature.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS

Modality = Literal["images", "texts"]


class Embeddings(NamedTuple):
    """Embeddings of a batch by an image-text model.

    Attributes:
        images: ``(B, D)``, of length 1.
        texts: ``(N, D)``, of length 1; row ``j`` is unrelated to image ``j``.
        scale: Scalar factor from cosines to scores.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor

    @property
    def scores(self) -> Tensor:
        """Scores ``(B, N)`` of each sentence for each image."""
        return self.scale * self.images @ self.texts.T


class UnpairedLoss(nn.Module):
    """A term that compares two models' embeddings of the same images and sentences.

    Args:
        weight: Weight of the term in the distiller's sum.
        temperature: ``tau``; scores are divided by it before the softmax.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """

    needs_equal_widths = False
    """Whether the student's embeddings must have the teacher's width."""

    def __init__(self, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: write a number above 0")
        self.weight = weight
        self.temperature = temperature

    def divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return ``1/R sum_r KL(softmax(teacher_r / tau) || softmax(student_r / tau))`` of scores ``(R, C)``."""
        log_q = F.log_softmax(student / self.temperature, dim=1)
        log_p = F.log_softmax(teacher / self.temperature, dim=1)
        return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    @abstractmethod
    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Return the loss without its weight, a scalar."""


@MODELS.register_module()
class ScoreDistillationLoss(UnpairedLoss):
    """Vision-language score distillation, over the sentences for each image and over the images for each sentence.

    With ``A^T_ij = s u^T_i . w^T_j`` and ``A^S`` likewise,
    ``L_vl = 1/B sum_i KL(p^T_i || p^S_i) + 1/N sum_j KL(q^T_j || q^S_j)``, where ``p_i`` is the softmax of
    ``A_i. / tau`` over the sentences and ``q_j`` that of ``A_.j / tau`` over the images.
    The gradient at ``A^S_ij`` is ``((p^S_ij - p^T_ij) / B + (q^S_ij - q^T_ij) / N) / tau``. Any order of
    images or sentences gives the same value.
    """

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = student.scores, teacher.scores
        return self.divergence(ours, theirs) + self.divergence(ours.T, theirs.T)


class _WithinOneKind(UnpairedLoss):
    """A term on images only, or on sentences only.

    Args:
        modality: ``images`` or ``texts``.
        **loss: Arguments of :class:`UnpairedLoss`.

    Raises:
        ValueError: ``modality`` is neither.
    """

    def __init__(self, modality: Modality = "images", **loss: float) -> None:
        super().__init__(**loss)
        if modality not in get_args(Modality):
            raise ValueError(f"modality={modality!r}: write 'images' or 'texts'")
        self.modality = modality

    def _of(self, embeddings: Embeddings) -> Tensor:
        return embeddings.images if self.modality == "images" else embeddings.texts


@MODELS.register_module()
class PseudoPairLoss(_WithinOneKind):
    """Pseudo vision-language score distillation: the teacher's embeddings of the images replace those of sentences.

    ``L_pvl = 2/B sum_i KL(softmax_j(s u^T_i . u^T_j / tau) || softmax_j(s u^S_i . u^T_j / tau))``; for ``texts`` the
    same with ``w``. Teacher and student share one space here, so their embeddings need the same width. Unlike unpaired
    sentences, each image has a matching "sentence".
    """

    needs_equal_widths = True

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = self._of(student), self._of(teacher)
        return 2 * self.divergence(teacher.scale * ours @ theirs.T, teacher.scale * theirs @ theirs.T)


@MODELS.register_module()
class DistancePreservingLoss(_WithinOneKind):
    """Uni-modal regulariser: match the distances between images in the student's space to those in the teacher's.

    ``L_udist = 2/B sum_i KL(softmax_j(s u^T_i . u^T_j / tau) || softmax_j(s u^S_i . u^S_j / tau))``; for ``texts``
    the same with ``w``. The two spaces may differ by a rotation, and in width.
    """

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = self._of(student), self._of(teacher)
        return 2 * self.divergence(teacher.scale * ours @ ours.T, teacher.scale * theirs @ theirs.T)
