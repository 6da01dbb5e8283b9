"""Mixed precision without a gradient scaler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from proteus.registry import OPTIM_WRAPPERS
from proteus.utils.precision import has_bfloat16


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass under ``torch.autocast`` to bfloat16, on any device; weights and losses stay float32.

    The released code trains in float16 with a gradient scaler (docs/reproduction.md#distillation-schedule); bfloat16
    has float32's range and needs none. For float16 use MMEngine's ``AmpOptimWrapper``.

    Args:
        dtype: ``bfloat16``, ``float32`` (no autocast), or ``auto``: bfloat16 on GPUs that have it, float32 elsewhere.
        **optim_wrapper: Arguments of MMEngine's ``OptimWrapper``.

    Raises:
        ValueError: ``dtype`` is not one of those.
    """

    def __init__(self, dtype: str = "auto", **optim_wrapper: Any) -> None:
        if dtype not in ("auto", "bfloat16", "float32"):
            raise ValueError(
                f"optim_wrapper.dtype={dtype!r}: write 'auto', 'bfloat16' or 'float32' "
                "(float16 needs a gradient scaler: type='AmpOptimWrapper', dtype='float16')"
            )
        super().__init__(**optim_wrapper)
        self.dtype = dtype
        # If set by a hook, receives the norms of gradients as device tensors: those that are clipped, and those of
        # steps for which the hook sets ``measures_norm``.
        self.norms: dict[str, Tensor] | None = None
        self.measures_norm = False

    def step(self, **kwargs: Any) -> None:
        """Clip or measure the gradients, and update the parameters."""
        if self.norms is not None and self.measures_norm and not self.clip_grad_kwargs:
            gradients = [each.grad for each in self._trained() if each.grad is not None]
            if gradients:
                self.norms["grad_norm"] = get_total_norm(gradients)
        super().step(**kwargs)

    def _clip_grad(self) -> None:
        if self.norms is None:
            super()._clip_grad()
            return
        parameters = [each for each in self._trained() if each.grad is not None]
        norm = self.clip_func(parameters, **self.clip_grad_kwargs) if parameters else None
        if norm is not None:  # None when clipping by value
            self.norms[self.grad_name] = norm

    def _trained(self) -> list[nn.Parameter]:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return [parameter for parameter in parameters if parameter.requires_grad]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast one forward pass of ``model``."""
        device = next(model.parameters()).device.type
        wanted = self.dtype == "bfloat16" or (self.dtype == "auto" and has_bfloat16(device))
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, enabled=wanted):
            yield
