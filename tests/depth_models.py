"""Small depth models, and weights for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from proteus.models import DepthEstimator
from proteus.structures import Features

WIDTHS = (6, 12, 24, 48)


def make_levels(grid: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Features]:
    """Tokens, of width 32, of four blocks of two images."""
    sizes = (2, 32), (2, grid[0] * grid[1], 32)
    return [Features(*(torch.randn(size, dtype=dtype) for size in sizes), grid) for _ in range(4)]


def randomise(module: nn.Module) -> None:
    """Weights and statistics that differ from every other."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5 if "running_var" in name else 0.2 * torch.randn(value.shape))


def estimator_config(**options: Any) -> dict[str, Any]:
    """A ViT of four blocks and width 32 for 28 px under a head of width 16."""
    backbone = {"type": "DenseViT", "arch": "tiny", "img_size": 28, "embed_dim": 32, "depth": 4, "num_heads": 2}
    head = {"type": "DPTDepthHead", "embed_dims": 32, "post_process_channels": WIDTHS, "channels": 16}
    return {
        "backbone": {**backbone, "out_indices": (0, 1, 2, 3), **options.pop("backbone", {})},
        "decode_head": {**head, **options.pop("decode_head", {})},
        **options,
    }


def make_estimator(**options: Any) -> DepthEstimator:
    """The same weights each time, and depths around two metres."""
    torch.manual_seed(0)
    model = DepthEstimator(**estimator_config(**options))
    randomise(model.decode_head)
    model.decode_head.conv_depth.bias.data.fill_(2.0)
    return model
