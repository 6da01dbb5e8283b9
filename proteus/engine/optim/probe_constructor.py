"""A learning rate for each head of a linear probe."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from proteus.models.classifiers import LinearProbe
from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ProbeConstructor(DefaultOptimWrapperConstructor):
    """One parameter group for each of ``model.learning_rates``.

    They hold for a batch of 256; ``auto_scale_lr=dict(base_batch_size=256, enable=True)`` multiplies them by the total
    batch over 256 (docs/reproduction.md#linear-probe), and writes the factor to the log.

    Args:
        optim_wrapper_cfg: The optimizer wrapper's config, whose optimizer has no ``lr``.
        paramwise_cfg: None.

    Raises:
        ValueError: The optimizer has an ``lr``, or there is a ``paramwise_cfg``.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        if paramwise_cfg:
            raise ValueError("optim_wrapper.paramwise_cfg: ProbeConstructor takes none; remove it")
        if "lr" in optim_wrapper_cfg["optimizer"]:
            raise ValueError(
                "optim_wrapper.optimizer.lr: the heads' learning rates are model.learning_rates; remove it, and "
                "set those"
            )
        # MMEngine logs this one as base_lr: the share of the heads' own rates that the schedule has left.
        optimizer = {**optim_wrapper_cfg["optimizer"], "lr": 1.0}
        # Anything true for paramwise_cfg: without it MMEngine makes a single group.
        super().__init__({**optim_wrapper_cfg, "optimizer": optimizer}, {"per_head": True})

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Make the groups.

        Args:
            params: Extended in place.
            module: The model.
            prefix: Not used.
            **options: MMEngine's own; not used.

        Raises:
            ValueError: The model is no linear probe.
        """
        if not isinstance(module, LinearProbe):
            raise ValueError(
                f"optim_wrapper.constructor='ProbeConstructor' is for model type='LinearProbe', not "
                f"{type(module).__name__}: remove it"
            )
        for rate, parameters in module.parameters_by_rate().items():
            params.append({"params": parameters, "lr": rate})
        logger = MMLogger.get_current_instance()
        rates = ", ".join(f"{rate:g}" for rate in module.learning_rates)
        logger.info(f"{len(module.heads_of_grid)} heads at learning rates {rates} for a batch of 256")
