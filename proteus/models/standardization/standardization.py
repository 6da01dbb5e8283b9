"""Standardised features of a teacher, with the statistics of cls tokens and of patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from mmengine.dist import broadcast
from torch import Tensor, nn

from proteus.models.standardization.moments import Moments
from proteus.registry import MODELS
from proteus.structures import Features
from proteus.utils.argument_checks import check_number, check_whole
from proteus.utils.precision import no_autocast
from proteus.utils.rotations import spreading_rotation

_KINDS = ("cls", "patches")


class Standardization(nn.Module):
    """An affine map of a teacher's tokens, computed from their statistics; objectives compare with mapped tokens.

    Cls tokens and patches have separate statistics. Predictions of the heads are mapped back for metrics and exports.
    Until there are statistics, the map is the identity.

    A subclass sets ``pairs`` and implements :meth:`make_map`, :meth:`set_map`, :meth:`apply_map` and :meth:`restore`.

    Args:
        dim: Width of the teacher's tokens; the distiller fills it in.
        images: Number of training images from which the statistics are computed before the first step
            (``StandardizationHook``, which is added to such a run). 0 computes them while training.
        steps: With ``images=0``: training steps that count. The map is computed again after steps 1, 2, 4, 8 and so
            on, and after the last, since each change moves the targets; then it is fixed.

    Attributes:
        pairs: Whether products of pairs of channels are needed, not only the channels' variances.
        seen: Steps that have counted; -1 once the map is fixed. Saved in checkpoints.
    """

    pairs: ClassVar[bool] = False
    seen: Tensor

    def __init__(self, dim: int, images: int = 1024, steps: int = 1024) -> None:
        super().__init__()
        self.images = check_whole("images", images, 0)
        self.steps = check_whole("steps", steps)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        for kind in _KINDS:
            self.register_buffer(f"{kind}_mean", torch.zeros(dim))
            self.make_map(kind, dim)
            if self.running:  # of the tokens so far
                self.register_buffer(f"{kind}_number", torch.zeros((), dtype=torch.float64))
                self.register_buffer(f"{kind}_average", torch.zeros(dim, dtype=torch.float64))
                shape = (dim, dim) if self.pairs else (dim,)
                self.register_buffer(f"{kind}_scatter", torch.zeros(shape, dtype=torch.float64))
        self._step: dict[str, Moments] = {}  # of the tokens of this step so far
        self._seen: int | None = 0  # ``seen`` on the host; None: to be read

    @property
    def running(self) -> bool:
        """Whether the statistics are computed while training."""
        return self.images == 0

    @property
    def fitted(self) -> bool:
        """Whether the map has been computed."""
        return self._steps_seen() != 0

    @abstractmethod
    def make_map(self, kind: str, dim: int) -> None:
        """Register the buffers of the map of ``cls`` or ``patches``, which is the identity."""

    @abstractmethod
    def set_map(self, kind: str, moments: Moments) -> None:
        """Compute the map of ``cls`` or ``patches``; rank 0's is taken by all."""

    @abstractmethod
    def apply_map(self, kind: str, tokens: Tensor) -> Tensor:
        """Map tokens ``(..., D)`` of the teacher."""

    @abstractmethod
    def restore(self, kind: str, tokens: Tensor) -> Tensor:
        """Map predictions ``(..., D)`` of mapped tokens back to the teacher's space."""

    def forward(self, features: Features) -> Features:
        """Map features in float32; while training, take in their statistics."""
        if self.training and self.running and not features.cls.is_meta and self._steps_seen() >= 0:
            # Not the features themselves: those of all parts of a step in micro-batches would stay in memory.
            self._step = self._with(self._step or self._none(), features)
        with no_autocast(features.cls.device):
            cls, patches = (self.apply_map(kind, getattr(features, kind)) for kind in _KINDS)
        return Features(cls, patches, features.grid)

    @torch.no_grad()
    def fit(self, batches: Iterable[Features]) -> None:
        """Compute the map from features of images, those of this process; all processes take part."""
        found = self._none()
        for features in batches:
            found = self._with(found, features)
        for kind in _KINDS:
            self._set(kind, found[kind].of_all_ranks())
        self._count_to(-1)

    @torch.no_grad()
    def end_step(self) -> None:
        """Take the step's features into the statistics; all processes take part, those without features as well."""
        found, self._step = self._step or self._none(), {}
        seen = self._steps_seen()
        if not self.running or seen < 0:
            return
        seen += 1
        for kind in _KINDS:
            earlier = Moments(*(getattr(self, f"{kind}_{name}") for name in ("number", "average", "scatter")))
            moments = earlier.plus(found[kind].of_all_ranks())
            for buffer, value in zip(earlier, moments, strict=True):
                buffer.copy_(value)
            if seen & (seen - 1) == 0 or seen >= self.steps:  # a power of 2
                self._set(kind, moments)
        self._count_to(-1 if seen >= self.steps else seen)

    def _none(self) -> dict[str, Moments]:
        like = self.get_buffer("cls_mean").double()
        scatter = like.new_zeros(len(like), len(like)) if self.pairs else like
        return {kind: Moments.none(like, scatter) for kind in _KINDS}

    def _with(self, found: Mapping[str, Moments], features: Features) -> dict[str, Moments]:
        """``found`` with the tokens of more images."""
        return {kind: found[kind].plus(Moments.of(getattr(features, kind), self.pairs)) for kind in _KINDS}

    def _set(self, kind: str, moments: Moments) -> None:
        getattr(self, f"{kind}_mean").copy_(moments.mean)
        self.set_map(kind, moments)

    def _count_to(self, seen: int) -> None:
        self._seen = seen
        self.seen.fill_(seen)

    def _steps_seen(self) -> int:
        """``seen``, read from the device once after a checkpoint was loaded."""
        if self._seen is None:
            self._seen = int(self.seen)
        return self._seen

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._seen = None


@MODELS.register_module()
class ChannelStandardization(Standardization):
    """Subtract each channel's mean and divide by its standard deviation: all channels count alike.

    Source: Theia (Shang et al., CoRL 2024, arXiv 2407.20179) and UNIC (Sariyildiz et al., ECCV 2024, arXiv
    2408.05088). ``StandardizedMSELoss`` does the same in one objective.

    Args:
        dim: Width of the teacher's tokens; the distiller fills it in.
        images: As for :class:`Standardization`.
        steps: As for :class:`Standardization`.
        eps: Added to the variances, in squared units of the teacher's features.
    """

    def __init__(self, dim: int, images: int = 1024, steps: int = 1024, eps: float = 1e-5) -> None:
        super().__init__(dim, images, steps)
        self.eps = check_number("eps", eps, 0, above=True)

    def make_map(self, kind: str, dim: int) -> None:
        """Register the channels' deviations, ``(D,)``."""
        self.register_buffer(f"{kind}_deviation", torch.ones(dim))

    def set_map(self, kind: str, moments: Moments) -> None:
        """Take the standard deviations."""
        variance = moments.scatter / moments.number.clamp(min=1)
        getattr(self, f"{kind}_deviation").copy_((variance + self.eps).sqrt())

    def apply_map(self, kind: str, tokens: Tensor) -> Tensor:
        """Standardise tokens ``(..., D)``."""
        return (tokens - getattr(self, f"{kind}_mean")) / getattr(self, f"{kind}_deviation")

    def restore(self, kind: str, tokens: Tensor) -> Tensor:
        """Map standardised tokens ``(..., D)`` back."""
        return tokens * getattr(self, f"{kind}_deviation") + getattr(self, f"{kind}_mean")


@MODELS.register_module()
class PHIStandardization(Standardization):
    """PHI-S: rotate the centred tokens until all channels have the same variance, and divide by its square root.

    ``x' = H U^T (x - mu) / phi`` with the mean ``mu``, the eigenvectors ``U`` of the tokens' covariance and its
    eigenvalues ``lambda_i``, ``phi^2 = mean(lambda_i)``, and a Hadamard matrix ``H`` divided by ``sqrt(D)``. Every
    channel then has variance 1, and angles and relative lengths are the teacher's: unlike with a scale per channel or
    whitening, no direction of little variance becomes a large target. Source: PCA-Hadamard isotropic standardization of
    Ranzinger et al., "PHI-S: Distribution Balancing for Label-Free Multi-Teacher Distillation", arXiv 2410.01680.

    Hadamard matrices are Sylvester's and Paley's; for widths without one, such as 50 or 92, plane rotations give equal
    variances (:func:`~proteus.utils.rotations.spreading_rotation`). Eigenvectors have their largest component positive,
    so that equal statistics give equal maps.

    Args:
        dim: Width of the teacher's tokens; the distiller fills it in.
        images: As for :class:`Standardization`.
        steps: As for :class:`Standardization`.
    """

    pairs = True

    def make_map(self, kind: str, dim: int) -> None:
        """Register the rotation ``H U^T`` ``(D, D)`` and the scale ``phi``."""
        self.register_buffer(f"{kind}_rotation", torch.eye(dim))
        self.register_buffer(f"{kind}_scale", torch.ones(()))

    def set_map(self, kind: str, moments: Moments) -> None:
        """Compute rotation and scale; those of rank 0 are taken by all."""
        values, vectors = torch.linalg.eigh(moments.scatter / moments.number.clamp(min=1))
        values = values.clamp(min=0)
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        vectors = vectors * largest.sign()
        rotation, scale = getattr(self, f"{kind}_rotation"), getattr(self, f"{kind}_scale")
        rotation.copy_(spreading_rotation(values) @ vectors.T)
        scale.copy_(values.mean().sqrt().clamp(min=1e-6))  # tokens that are all equal have no scale
        # Eigenvectors of equal eigenvalues, such as 0 with fewer tokens than channels, may differ between processes.
        broadcast(rotation)
        broadcast(scale)

    def apply_map(self, kind: str, tokens: Tensor) -> Tensor:
        """Standardise tokens ``(..., D)``."""
        rotation, scale = getattr(self, f"{kind}_rotation"), getattr(self, f"{kind}_scale")
        return (tokens - getattr(self, f"{kind}_mean")) @ rotation.T / scale

    def restore(self, kind: str, tokens: Tensor) -> Tensor:
        """Map standardised tokens ``(..., D)`` back."""
        rotation, scale = getattr(self, f"{kind}_rotation"), getattr(self, f"{kind}_scale")
        return scale * tokens @ rotation + getattr(self, f"{kind}_mean")
