"""Weights of several teachers, and steps that leave some of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from proteus.registry import MODELS
from proteus.utils.argument_checks import check_number

# Of the random stream that teachers are dropped from.
_SALT = 0x7EAC


@MODELS.register_module()
class LossMagnitudeBalance(nn.Module):
    """Divide the loss of each teacher by its running mean, so that all have the same magnitude.

    The mean is that of earlier steps, over all processes and micro-batches; in the first step losses count as they
    are. Source: AdaLoss (Hu et al., AAAI 2019, arXiv 1708.06832), there for the outputs of one network.

    Args:
        names: Names of the teachers; the distiller fills them in.
        momentum: Weight of the newest step in the mean.

    Attributes:
        mean: ``(T,)``, the running means; saved in checkpoints.
        known: ``(T,)`` bool, whether there is one yet; likewise.
    """

    mean: Tensor
    known: Tensor

    def __init__(self, names: Sequence[str], momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = check_number("momentum", momentum, 0, 1, above=True)
        self.positions = {name: position for position, name in enumerate(names)}
        self.register_buffer("mean", torch.ones(len(names)))
        self.register_buffer("known", torch.zeros(len(names), dtype=torch.bool))
        self._parts: list[tuple[int, Tensor]] = []  # of this step so far

    def forward(self, name: str, loss: Tensor) -> Tensor:
        """Return the factor of a teacher's loss, a scalar; while training, take in the loss."""
        position = self.positions[name]
        if self.training and not loss.is_meta:
            self._parts.append((position, loss.detach().float()))
        return 1 / self.mean[position].clamp(min=1e-6)

    @torch.no_grad()
    def end_step(self) -> None:
        """Take the step's losses into the means; all processes take part."""
        parts, self._parts = self._parts, []
        sums = torch.zeros(2, len(self.mean), device=self.mean.device)
        for position, loss in parts:
            sums[0, position] += loss
            sums[1, position] += 1
        all_reduce(sums)
        newest = sums[0] / sums[1].clamp(min=1)
        share = torch.where(self.known, self.momentum, 1.0) * (sums[1] > 0)
        self.mean.lerp_(newest, share)
        self.known |= sums[1] > 0


class TeacherDropping(nn.Module):
    """Choose the teachers of each step: each is left out with its own probability, but never all.

    The choice depends on the number of the step alone, so that all processes make the same one, and a resumed run the
    one that it would have made. Source: teacher dropping of UNIC (Sariyildiz et al., ECCV 2024, arXiv 2408.05088),
    there for each image, as :class:`~proteus.models.distillers.image_dropping.ImageDropping` does; here a teacher that
    is left out does not run.

    Args:
        probabilities: For each teacher, by name, the probability that a step leaves it out.

    Attributes:
        step: Number of steps so far; saved in checkpoints.
    """

    step: Tensor

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        super().__init__()
        self.probabilities = dict(probabilities)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._step: int | None = 0  # on the host; None: to be read

    def kept(self) -> list[str]:
        """Return the names of this step's teachers, in order."""
        if self._step is None:
            self._step = int(self.step)
        drawn = np.random.default_rng((_SALT, self._step)).random(len(self.probabilities))
        margins = {
            name: draw - probability
            for draw, (name, probability) in zip(drawn, self.probabilities.items(), strict=True)
        }
        return [name for name, margin in margins.items() if margin >= 0] or [max(margins, key=margins.__getitem__)]

    def end_step(self) -> None:
        """Count a step."""
        self._step = (self._step or 0) + 1
        self.step.fill_(self._step)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._step = None
