"""Weights of Meta's DINOv3 release."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from proteus.checkpoints import CheckpointError
from proteus.models import TimmBackbone

SIZES = {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": 32}


def metas_vit(state: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """Rename timm's weights as in Meta's file, with the tensors that only training needs."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("reg_token", "storage_tokens").replace(".mlp.fc1_g.", ".mlp.w1.")
        key = key.replace(".mlp.fc1_x.", ".mlp.w2.")
        if any(".mlp.fc1_g" in other for other in state):
            key = key.replace(".mlp.fc2.", ".mlp.w3.")
        renamed[re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key)] = value
    for key in [key for key in renamed if key.endswith("qkv.weight")]:
        stem = key.removesuffix("weight")
        renamed[f"{stem}bias"] = torch.zeros(3 * width)
        renamed[f"{stem}bias_mask"] = torch.ones(3 * width)
    return renamed | {"mask_token": torch.zeros(1, width), "rope_embed.periods": torch.ones(8)}


@torch.no_grad()
@pytest.mark.parametrize("arch", ["vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3"])
def test_vit(arch: str, tmp_path: Path) -> None:
    original = timm.create_model(arch, num_classes=0, **SIZES).eval()
    torch.save(metas_vit(original.state_dict(), 64), tmp_path / "meta.pth")
    backbone = TimmBackbone(arch, checkpoint=tmp_path / "meta.pth", **SIZES).eval()
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone(images).cls, original.forward_features(images)[:, 0])


def test_bias_of_queries_needs_a_model_with_one(tmp_path: Path) -> None:
    state = metas_vit(timm.create_model("vit_small_patch16_dinov3", num_classes=0, **SIZES).state_dict(), 64)
    bias = torch.arange(3 * 64.0) + 1
    torch.save({**state, "blocks.1.attn.qkv.bias": bias}, tmp_path / "biased.pth")
    with pytest.raises(CheckpointError, match=r"biased.pth has biases.*blocks.1.attn.qkv.bias.*_qkvb"):
        TimmBackbone("vit_small_patch16_dinov3", checkpoint=tmp_path / "biased.pth", **SIZES)
    backbone = TimmBackbone("vit_small_patch16_dinov3_qkvb", checkpoint=tmp_path / "biased.pth", **SIZES)
    assert torch.equal(backbone.model.blocks[1].attn.q_bias, bias[:64])
    assert torch.equal(backbone.model.blocks[1].attn.v_bias, bias[128:])


@torch.no_grad()
def test_convnext(tmp_path: Path) -> None:
    sizes = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
    original = timm.create_model("convnext_tiny", num_classes=0, **sizes).eval()
    state = {}
    for key, value in original.state_dict().items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = key.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        state[key.replace("head.norm", "norm")] = value
    torch.save(state | {"norms.3.weight": torch.ones(32)}, tmp_path / "meta.pth")
    backbone = TimmBackbone("convnext_tiny", checkpoint=tmp_path / "meta.pth", **sizes).eval()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images).patches[:, 0], original.forward_features(images)[:, :, 0, 0])
