from dataclasses import replace
from typing import Any

import pytest
import timm
import torch

from proteus.checkpoints.description import Description
from proteus.checkpoints.detect_arch import Shape
from proteus.checkpoints.usage import usage

# DINOv2 ViT-S/14, trained at 518 x 518: a grid of 37 x 37 patches.
DINOV2 = Shape(384, 12, 14, 0, 37, layer_scale=True, pre_norm=False, swiglu=False, mask_token=True, classifier=None)
CLIP = Shape(1024, 24, 14, 0, 16, layer_scale=False, pre_norm=True, swiglu=False, mask_token=False, classifier=None)
NOTHING = Description()


def arguments(code: str) -> dict[str, Any]:
    """Evaluate the ``dict(...)`` that OpenMMLab's forms are."""
    return eval(code, {"dict": dict})


def test_timm_builds_the_model() -> None:
    model = eval(usage(replace(DINOV2, width=192, depth=1, side=4), "timm", {}, NOTHING), {"timm": timm})
    assert model.pos_embed.shape == (1, 4 * 4 + 1, 192)
    assert model.patch_embed.patch_size == (14, 14)
    assert len(model.blocks) == 1
    assert model.blocks[0].attn.num_heads == 3
    assert hasattr(model.blocks[0].ls1, "gamma")


def test_a_description_gives_architecture_and_heads() -> None:
    known = Description("vit_tiny_patch16_224", {"num_heads": 2})
    assert usage(DINOV2, "timm", {}, known) == "timm.create_model('vit_tiny_patch16_224', num_heads=2, num_classes=0)"
    assert arguments(usage(DINOV2, "mmpretrain", {}, known))["arch"]["num_heads"] == 2


def test_unknown_heads_are_left_open() -> None:
    assert "num_heads=None" in usage(replace(DINOV2, width=200), "dinov2", {}, NOTHING)


def test_a_model_without_a_grid_takes_224_pixels() -> None:
    assert "img_size=224" in usage(replace(DINOV2, side=None), "dinov2", {}, NOTHING)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (DINOV2, "Dinov2Model(transformers.Dinov2Config(hidden_size=384"),
        (replace(DINOV2, registers=4), "Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig("),
        (replace(DINOV2, layer_scale=False), "ViTModel(transformers.ViTConfig("),
        (CLIP, "CLIPVisionModel(transformers.CLIPVisionConfig("),
    ],
)
def test_hugging_face(shape: Shape, kind: str) -> None:
    code = usage(shape, "hf", {}, NOTHING)
    assert code.startswith(f"transformers.{kind}")
    assert ("intermediate_size" in code) == (not shape.layer_scale)
    assert ("add_pooling_layer=False" in code) == ("ViTModel" in code)


def test_mmpretrain() -> None:
    state = {"blocks.0.mlp.fc2.weight": torch.empty(384, 1024)}
    assert arguments(usage(DINOV2, "mmpretrain", state, NOTHING)) == {
        "type": "mmpretrain.VisionTransformer",
        "arch": {"embed_dims": 384, "num_layers": 12, "num_heads": 6, "feedforward_channels": 1024},
        "img_size": 518,
        "patch_size": 14,
        "out_type": "raw",
        "pre_norm": False,
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        "layer_scale_init_value": 1.0,
    }
    gated = arguments(usage(replace(DINOV2, swiglu=True), "mmpretrain", state, NOTHING))
    assert gated["arch"]["feedforward_channels"] == 1536
    assert gated["layer_cfgs"] == {"ffn_type": "swiglu_fused"}
    clip = arguments(usage(CLIP, "mmpretrain", {}, NOTHING))
    assert clip["layer_cfgs"] == {"act_cfg": {"type": "mmpretrain.QuickGELU"}}
    assert clip["norm_cfg"]["eps"] == 1e-5
    plain = arguments(usage(CLIP, "mmpretrain", {}, Description("vit_large_patch14_clip_224")))
    assert "layer_cfgs" not in plain


def test_mmseg() -> None:
    vit = arguments(usage(CLIP, "mmseg-vit", {"patch_embed.proj.bias": torch.zeros(1)}, NOTHING))
    assert vit["patch_bias"] is True
    assert vit["pre_norm"] is True
    assert vit["mlp_ratio"] == 4
    assert arguments(usage(DINOV2, "mmseg", {}, NOTHING))["type"] == "mmseg.MAE"
    assert "LayerNorm before the first block" in usage(CLIP, "mmseg", {}, NOTHING)
    assert "gated MLPs" in usage(replace(DINOV2, swiglu=True), "mmseg", {}, NOTHING)
