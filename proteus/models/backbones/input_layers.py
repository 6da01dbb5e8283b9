"""Linear layers that read pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from proteus.models.backbones.features import run_on_meta


def input_layers(backbone: nn.Module, img_size: int) -> list[nn.Linear]:
    """Find the linear layers that come first: what they read has passed no matrix and no kernel.

    They embed flattened patches of pixels, as NaFlexViT's does, or coordinates of positions. Norms before them do not
    count. A forward pass on the meta device finds them: by shape an embedding of 16 x 16 patches of three channels, 768
    numbers, is like a hidden layer of a ViT-B.

    Args:
        backbone: Image -> ``Features``.
        img_size: Side of the square image, pixels.
    """
    found: list[nn.Linear] = []

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Activations that are computed again in the backward pass have no gradients here, and tokens look like pixels.
        if torch.is_grad_enabled() and isinstance(layer, nn.Linear) and not inputs[0].requires_grad:
            found.append(layer)

    handles = [each.register_forward_pre_hook(look) for each in backbone.modules() if isinstance(each, nn.Linear)]
    parameters = {
        name: value.detach().to("meta").requires_grad_(value.ndim > 1) for name, value in backbone.named_parameters()
    }
    try:
        with torch.enable_grad():
            run_on_meta(backbone, img_size, parameters)
    finally:
        for handle in handles:
            handle.remove()
    return found
