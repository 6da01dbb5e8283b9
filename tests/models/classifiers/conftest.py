"""A probe small enough to train in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from proteus.models import LinearProbe

BACKBONE = {"type": "ViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 5, "num_heads": 3}


@pytest.fixture
def make_probe() -> Callable[..., LinearProbe]:
    def make(backbone: dict[str, Any] | None = None, num_classes: int = 5, **options: Any) -> LinearProbe:
        torch.manual_seed(0)
        return LinearProbe({**BACKBONE, **(backbone or {})}, num_classes=num_classes, **options)

    return make


@pytest.fixture
def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "inputs": torch.randn(12, 3, 28, 28, generator=generator),
        "labels": torch.randint(0, 5, (12,), generator=generator),
    }
