"""What a small image-text model learns from a large one without knowing which sentence belongs to which image.

The formulas are given as the project reads them; README.md says where each reading comes from. Throughout, ``u_i`` are
the embeddings of images and ``w_j`` of sentences, all of length 1, with ``^T`` for the teacher's and ``^S`` for the
student's; ``s`` is the teacher's scale (the exponential of CLIP's ``logit_scale``), ``B`` and ``N`` the numbers of
images and sentences in a process's batch, and ``tau`` a loss's temperature.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from proteus.registry import MODELS

Modality = Literal["images", "texts"]


class Embeddings(NamedTuple):
    """What an image-text model makes of a batch.

    Attributes:
        images: ``(B, D)``, of length 1.
        texts: ``(N, D)``, of length 1; row ``j`` has nothing to do with image ``j``.
        scale: Scalar by which cosines become scores.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor

    @property
    def scores(self) -> Tensor:
        """``(B, N)``: how well each sentence suits each image."""
        return self.scale * self.images @ self.texts.T


class UnpairedLoss(nn.Module):
    """A term that compares two models' embeddings of the same images and sentences.

    Args:
        weight: What the distiller multiplies the term by.
        temperature: ``tau``, by which scores are divided before they become distributions.

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
        """``1/R sum_r KL(softmax(teacher_r / tau) || softmax(student_r / tau))`` of scores ``(R, C)``; a scalar."""
        log_q = F.log_softmax(student / self.temperature, dim=1)
        log_p = F.log_softmax(teacher / self.temperature, dim=1)
        return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    @abstractmethod
    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar without the weight."""


@MODELS.register_module()
class ScoreDistillationLoss(UnpairedLoss):
    """The vision-language score distillation: each image's distribution over all sentences of the batch, and each
    sentence's over all images.

    With ``A^T_ij = s u^T_i . w^T_j`` and ``A^S`` likewise,
    ``L_vl = 1/B sum_i KL(p^T_i || p^S_i) + 1/N sum_j KL(q^T_j || q^S_j)``, where ``p_i`` is the softmax of
    ``A_i. / tau`` over the sentences and ``q_j`` that of ``A_.j / tau`` over the images.
    The gradient at ``A^S_ij`` is ``((p^S_ij - p^T_ij) / B + (q^S_ij - q^T_ij) / N) / tau``. No index ties an image to
    a sentence: any order of either gives the same value.
    """

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = student.scores, teacher.scores
        return self.divergence(ours, theirs) + self.divergence(ours.T, theirs.T)


class _WithinOneKind(UnpairedLoss):
    """A term of images alone, or of sentences alone.

    Args:
        modality: ``images`` or ``texts``.
        **loss: As for :class:`UnpairedLoss`.

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
    """The pseudo vision-language score distillation: the teacher's own embeddings of the batch's images stand for
    sentences that describe them.

    ``L_pvl = 2/B sum_i KL(softmax_j(s u^T_i . u^T_j / tau) || softmax_j(s u^S_i . u^T_j / tau))``; of ``texts`` the
    same with ``w``. Teacher and student are in one space here, and so need embeddings of one width. It gives every
    image a "sentence" that suits it, which unpaired sentences do not.
    """

    needs_equal_widths = True

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = self._of(student), self._of(teacher)
        return 2 * self.divergence(teacher.scale * ours @ theirs.T, teacher.scale * theirs @ theirs.T)


@MODELS.register_module()
class DistancePreservingLoss(_WithinOneKind):
    """The uni-modal regulariser: images that are near each other for the teacher are near each other for the student.

    ``L_udist = 2/B sum_i KL(softmax_j(s u^T_i . u^T_j / tau) || softmax_j(s u^S_i . u^S_j / tau))``; of ``texts`` the
    same with ``w``. The two spaces may have different widths and be turned against each other.
    """

    def forward(self, student: Embeddings, teacher: Embeddings) -> Tensor:
        """Compare; returns a scalar."""
        ours, theirs = self._of(student), self._of(teacher)
        return 2 * self.divergence(teacher.scale * ours @ ours.T, teacher.scale * theirs @ theirs.T)
