"""Weights of Meta's DINOv3 release, and of ``transformers``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import timm
import torch
import transformers
from torch import Tensor

from proteus.checkpoints import CheckpointError, to_timm_keys
from proteus.checkpoints.detect_arch import detect_arch
from proteus.checkpoints.dinov3_keys import dinov3_arch
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


@torch.no_grad()
@pytest.mark.parametrize(
    ("gated", "arch"),
    [(False, "vit_small_patch16_dinov3_qkvb"), (True, "vit_small_plus_patch16_dinov3")],
    ids=["plain", "gated"],
)
def test_vit_of_transformers(gated: bool, arch: str, tmp_path: Path) -> None:
    sizes: dict[str, int] = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "num_register_tokens": 4, "image_size": 32}
    activation = "silu" if gated else "gelu"
    config = transformers.DINOv3ViTConfig(**sizes, use_gated_mlp=gated, hidden_act=activation, initializer_range=0.5)
    original = transformers.DINOv3ViTModel(config).eval()
    for name, value in original.named_parameters():
        if name.endswith(("q_proj.bias", "v_proj.bias")):
            value.fill_(0 if arch.endswith("dinov3") else 0.3)
    original.save_pretrained(tmp_path)
    images = torch.randn(1, 3, 32, 32)
    wanted = original(images).last_hidden_state[:, 0]
    torch.save(original.state_dict(), tmp_path / "in_memory.pth")
    for file in ("model.safetensors", "in_memory.pth"):
        backbone = TimmBackbone(arch, checkpoint=tmp_path / file, **SIZES).eval()
        torch.testing.assert_close(backbone(images).cls, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("arch", timm.list_models("vit_*_dinov3*"))
def test_the_architecture_is_recognised_by_its_sizes(arch: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(arch, num_classes=0).state_dict()
    state = {key: torch.ones(3) if key.endswith("_bias") else value for key, value in state.items()}
    shape = detect_arch(state)
    assert shape is not None
    assert shape.family == "DINOv3"
    assert dinov3_arch(shape, state) == arch


def test_biases_without_an_effect_are_left_out(tmp_path: Path) -> None:
    state = timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, **SIZES).state_dict()
    state["blocks.0.attn.q_bias"].zero_()
    torch.save(state, tmp_path / "timm.pth")
    shape = detect_arch(to_timm_keys({**state, "patch_embed.proj.weight": torch.zeros(384, 3, 16, 16)}))
    assert shape is not None
    assert dinov3_arch(shape, state) == "vit_small_patch16_dinov3"
    TimmBackbone("vit_small_patch16_dinov3", checkpoint=tmp_path / "timm.pth", **SIZES)


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
