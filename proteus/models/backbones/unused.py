"""Parameters that a backbone's features do not depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from proteus.models.backbones.features import run_on_meta
from proteus.utils.meta_run import MetaRun

_FOUND: dict[str, list[str]] = {}


def unused_parameters(backbone: nn.Module, config: Mapping[str, Any], img_size: int) -> list[str]:
    """Find the parameters that get no gradient from ``cls`` and ``patches``.

    A backward pass on the meta device finds them: layers of a classifier's head, such as MobileNetV3's ``conv_head``,
    and attention pooling next to a cls token.

    Args:
        backbone: Image -> ``Features``.
        config: Values that the backbone was built from; an earlier result for equal ones is returned again.
        img_size: Side of the square image, pixels.

    Returns:
        Names of the parameters.
    """
    key = json.dumps([config, img_size], sort_keys=True, default=repr)
    if key not in _FOUND:
        _FOUND[key] = _without_gradient(backbone, img_size)
    return _FOUND[key]


def _without_gradient(backbone: nn.Module, img_size: int) -> list[str]:
    parameters = {name: value.detach().to("meta").requires_grad_() for name, value in backbone.named_parameters()}
    with torch.enable_grad(), torch.device("meta"), MetaRun():
        features = run_on_meta(backbone, img_size, parameters)
        (features.cls.sum() + features.patches.sum()).backward()
    return [name for name, value in parameters.items() if value.grad is None]
