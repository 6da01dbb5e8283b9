"""Parameter groups that an optimizer can batch."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor, with the groups that agree in every option merged and logged.

    With ``paramwise_cfg`` MMEngine makes one group a parameter, and AdamW's batched kernels then run on one tensor at
    a time.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = "", **options: Any) -> None:
        """Collect the groups of ``module`` and its children; at the root, merge them.

        Args:
            params: Groups so far, extended in place.
            module: Where to look for parameters.
            prefix: Its name; empty at the root.
            **options: MMEngine's own.
        """
        if prefix:
            super().add_params(params, module, prefix=prefix, **options)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.WARNING)  # MMEngine writes a line for every parameter; below is one for every group
        super().add_params(params, module, prefix=prefix, **options)
        logger.setLevel(level)
        params[:] = merge_groups(params)
        for group in params:
            rest = {key: value for key, value in group.items() if key != "params"}
            logger.info(f"optimizer group of {len(group['params'])} tensors: {rest or 'the defaults'}")


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the groups whose options are equal, in the order in which they first appear."""
    merged: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for group in groups:
        options = {key: value for key, value in group.items() if key != "params"}
        joined = merged.setdefault(tuple(sorted(options.items())), {"params": [], **options})
        joined["params"] += group["params"]
    return list(merged.values())
