"""Small models to export, with weights that are far from their initial values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from proteus.exporters import ExportModel
from proteus.models import TimmBackbone, ViT

SIZES: dict[str, Any] = {"img_size": 56, "patch_size": 14, "embed_dim": 48, "depth": 2, "num_heads": 3}
BACKBONES: dict[str, Callable[[], Any]] = {
    "layer scale": lambda: ViT("tiny", **SIZES),
    "registers": lambda: ViT("tiny", reg_tokens=2, **SIZES),
    "plain": lambda: ViT("tiny", init_values=None, **SIZES),
    "clip": lambda: ViT("clip-base", **SIZES),
    "gated": lambda: ViT("giant", **SIZES),
    "clip with layer scale": lambda: ViT("clip-base", init_values=1.0, **SIZES),
    "cnn": lambda: TimmBackbone("resnet10t", img_size=64),
    "wide head": lambda: TimmBackbone("mobilenetv3_small_050", img_size=64),
    "windows": lambda: TimmBackbone(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(1,), num_heads=(1,)
    ),
}


def make_model(kind: str) -> ExportModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = BACKBONES[kind]().eval().requires_grad_(False)
        for value in backbone.parameters():
            value.add_(0.02 * torch.randn_like(value))
    return ExportModel(backbone, kind, backbone.img_size, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), teacher="a teacher")


@pytest.fixture(scope="session")
def models() -> Callable[[str], ExportModel]:
    """Make a model by its kind, once."""
    made: dict[str, ExportModel] = {}

    def get(kind: str) -> ExportModel:
        if kind not in made:
            made[kind] = make_model(kind)
        return made[kind]

    return get
