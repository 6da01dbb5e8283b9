"""An average of weights in a few kernels."""

from __future__ import annotations

from collections import defaultdict

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from proteus.registry import MODELS


@MODELS.register_module()
class ForeachEMA(ExponentialMovingAverage):
    """MMEngine's ``ExponentialMovingAverage``, all tensors of a device and dtype at once.

    One kernel a tensor is hundreds of launches a step; the numbers are the same. Integer buffers (batch norm's
    count of batches) are copied, not averaged; MMEngine keeps the first with ``update_buffers``.

    With ``gamma`` the newest weights count ``max(momentum, gamma / (gamma + steps))``, as in MMEngine's
    ``MomentumAnnealingEMA``: the weights in the average are ``1 / (gamma + 1)`` of the run so far old, until
    ``momentum`` is reached. This is the power function of Karras et al., https://arxiv.org/abs/2312.02696, eq. 2.

    ``custom_hooks=[dict(type='EMAHook', ema_type='ForeachEMA', momentum=4e-5)]``

    Args:
        model: The model to be averaged.
        momentum: Weight of the newest weights, above 0 and below 1.
        interval: Steps from one update to the next.
        device: Where the average is kept; by default where the model is.
        update_buffers: Average the buffers, too; otherwise the latest are kept.
        gamma: Length of the warm-up, above 0; None for ``momentum`` from the second update on.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0002,
        interval: int = 1,
        device: torch.device | str | None = None,
        update_buffers: bool = False,
        gamma: float | None = None,
    ) -> None:
        super().__init__(model, momentum, interval, device, update_buffers)
        self.gamma = gamma
        self.steps = torch.tensor(0)  # on the host: what is counted on the device would be waited for in each step

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights of ``model``; the first time, copy them."""
        sources = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        pairs = [(average, sources[name]) for name, average in self.avg_parameters.items()]
        if not self.update_buffers:
            _copy(list(zip(self.module.buffers(), model.buffers(), strict=True)))
        if self.steps == 0:
            _copy(pairs)
        else:
            _copy([pair for pair in pairs if not pair[0].is_floating_point()])
            if self.steps % self.interval == 0:
                _lerp([pair for pair in pairs if pair[0].is_floating_point()], self._weight())
        self.steps += 1

    def _weight(self) -> float:
        if self.gamma is None:
            return self.momentum
        return max(self.momentum, self.gamma / (self.gamma + self.steps.item()))


def _copy(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for average, source in pairs:
        average.copy_(source)


def _lerp(pairs: list[tuple[Tensor, Tensor]], weight: float) -> None:
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for average, source in pairs:
        averages, sources = groups[average.device, average.dtype]
        averages.append(average)
        sources.append(source.to(average.device, average.dtype))
    for averages, sources in groups.values():
        torch._foreach_lerp_(averages, sources, weight)
