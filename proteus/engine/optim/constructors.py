"""Constructors of parameter groups: merged groups, and one group per learning rate of a linear probe."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from proteus.compat import quiet_logger
from proteus.engine.optim.muon import mark_groups, uses_muon
from proteus.models.classifiers import LinearProbe
from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, with groups of equal options merged and logged.

    With ``paramwise_cfg`` MMEngine makes one group per parameter, so that AdamW's batched kernels run on one tensor at
    a time. With ``Muon`` the groups that it updates itself are apart from those of AdamW.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        if not paramwise_cfg and uses_muon(optim_wrapper_cfg.get("optimizer") or {}):
            paramwise_cfg = {"bypass_duplicate": True}  # without any option MMEngine makes a single group
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Collect the groups of ``module`` and its children; at the root, merge them.

        Args:
            params: Groups, extended in place.
            module: Module with the parameters.
            prefix: Its name; empty at the root.
            **options: MMEngine's other arguments.
        """
        if prefix:
            super().add_params(params, module, prefix=prefix, **options)
            return
        with quiet_logger():  # MMEngine logs every parameter; we log every group
            super().add_params(params, module, prefix=prefix, **options)
        if uses_muon(self.optimizer_cfg):
            mark_groups(params, module)
        logger = MMLogger.get_current_instance()
        params[:] = merge_groups(params)
        for group in params:
            rest = {key: value for key, value in group.items() if key != "params"}
            logger.info(f"optimizer group of {len(group['params'])} tensors: {rest or 'default options'}")


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge groups with equal options, in order of first appearance."""
    merged: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for group in groups:
        options = {key: value for key, value in group.items() if key != "params"}
        joined = merged.setdefault(tuple(sorted(options.items())), {"params": [], **options})
        joined["params"] += group["params"]
    return list(merged.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ProbeConstructor(DefaultOptimWrapperConstructor):
    """One parameter group for each of ``model.learning_rates``.

    The rates are for a batch size of 256; ``auto_scale_lr=dict(base_batch_size=256, enable=True)`` multiplies them by
    the total batch size over 256 (docs/reproduction.md#linear-probe) and logs the factor.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, with an optimizer without ``lr``.
        paramwise_cfg: Must be None.

    Raises:
        ValueError: The optimizer has an ``lr``, or ``paramwise_cfg`` is set.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        if paramwise_cfg:
            raise ValueError("optim_wrapper.paramwise_cfg: ProbeConstructor does not support it; remove it")
        if "lr" in optim_wrapper_cfg["optimizer"]:
            raise ValueError(
                "optim_wrapper.optimizer.lr: remove it; model.learning_rates are the learning rates of the heads"
            )
        # MMEngine logs this as base_lr: the factor by which the schedule has scaled the heads' rates.
        optimizer = {**optim_wrapper_cfg["optimizer"], "lr": 1.0}
        # Any non-empty paramwise_cfg: without one MMEngine makes a single group.
        super().__init__({**optim_wrapper_cfg, "optimizer": optimizer}, {"per_head": True})

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Make the groups.

        Args:
            params: Groups, extended in place.
            module: The model.
            prefix: Ignored.
            **options: Ignored.

        Raises:
            ValueError: The model is not a linear probe.
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
