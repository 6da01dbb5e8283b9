"""Layer-wise decay of the learning rate, by hand and against timm's."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from proteus.engine import LayerDecayConstructor, MergedGroupsConstructor
from proteus.engine.optim.layer_decay import layers_of
from proteus.models import DenseViT, TimmBackbone, ViT

RELEASED = {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0, "flat_decay_mult": 0.0}
DEIT = {**RELEASED, "custom_keys": {"pos_embed": {"decay_mult": 0.0}, "cls_token": {"decay_mult": 0.0}}}
SIZE = {"arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 3, "num_heads": 2}


class Classifier(nn.Module):
    """Stands as mmpretrain's and mmseg's models do: a backbone and a head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(24, 5)


def build(model: nn.Module, rate: float = 0.5, lr: float = 0.1, **paramwise: Any) -> torch.optim.Optimizer:
    constructor = LayerDecayConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": lr, "weight_decay": 0.05}},
        {"layer_decay_rate": rate, **paramwise},
    )
    return constructor(model).optimizer


def settings(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by parameter name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_parameter_by_hand() -> None:
    model = Classifier(DenseViT(out_indices=(0, 2), final_norm=True, mask_token=True, reg_tokens=2, **SIZE))
    found = settings(model, build(model, **RELEASED))
    assert found.keys() == dict(model.named_parameters()).keys()
    # Three blocks: layers 0 to 4, so that the embedding has 0.5 ** 4.
    embedding, first, second, third, full = 0.1 / 16, 0.1 / 8, 0.1 / 4, 0.1 / 2, 0.1
    expected = {
        "backbone.mask_token": (embedding, 0.05),
        "backbone.vit.cls_token": (embedding, 0.05),
        "backbone.vit.reg_token": (embedding, 0.05),
        "backbone.vit.pos_embed": (embedding, 0.05),
        "backbone.vit.patch_embed.proj.weight": (embedding, 0.05),
        "backbone.vit.patch_embed.proj.bias": (embedding, 0.0),
        "backbone.vit.blocks.0.attn.qkv.weight": (first, 0.05),
        "backbone.vit.blocks.0.norm1.weight": (first, 0.0),
        "backbone.vit.blocks.1.ls2.gamma": (second, 0.0),
        "backbone.vit.blocks.2.mlp.fc2.weight": (third, 0.05),
        "backbone.vit.blocks.2.mlp.fc2.bias": (third, 0.0),
        "backbone.vit.norm.weight": (full, 0.0),
        "head.weight": (full, 0.05),
        "head.bias": (full, 0.0),
    }
    assert {name: found[name] for name in expected} == {name: pytest.approx(pair) for name, pair in expected.items()}
    scales = {"blocks.0": first, "blocks.1": second, "blocks.2": third}
    for name, (lr, decay) in found.items():
        block = next((lr for key, lr in scales.items() if key in name), None)
        assert block is None or lr == pytest.approx(block), name
        assert decay == (0.0 if dict(model.named_parameters())[name].ndim == 1 else 0.05), name


def test_clips_norm_before_the_blocks_is_in_layer_0() -> None:
    model = ViT(**{**SIZE, "arch": "clip-base", "patch_size": 14})
    layers = layers_of(model)
    assert layers["vit.norm_pre.weight"].number == 0
    assert layers["vit.norm.weight"].number == layers["vit.norm.weight"].last == 4


def test_groups_are_merged_into_two_per_layer() -> None:
    model = Classifier(ViT(**SIZE))
    assert len(build(model, **RELEASED).param_groups) == 2 * 5
    assert len(build(model, **DEIT).param_groups) == 2 * 5
    assert all("decay_mult" not in group for group in build(model, **DEIT).param_groups)


def test_deits_rule_exempts_position_embedding_and_cls_token() -> None:
    model = Classifier(ViT(**SIZE))
    found = settings(model, build(model, **DEIT))
    assert found["backbone.vit.pos_embed"] == found["backbone.vit.cls_token"] == (pytest.approx(0.1 / 16), 0.0)
    assert found["backbone.vit.patch_embed.proj.weight"] == (pytest.approx(0.1 / 16), 0.05)


def test_scales_and_weight_decays_equal_timm() -> None:
    model = ViT(**SIZE, init_values=1.0)
    ours = settings(model, build(model, 0.65, lr=1.0, **DEIT))
    twin = timm.create_model(**model.timm_args, num_classes=7)
    names = {id(parameter): f"vit.{name}" for name, parameter in twin.named_parameters()}
    groups = param_groups_layer_decay(
        twin, weight_decay=0.05, no_weight_decay_list=twin.no_weight_decay(), layer_decay=0.65
    )
    expected = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    # timm joins the final norm to the last block; BEiT, MAE, iBOT and the released mmseg code do not.
    assert expected.pop("vit.norm.weight")[0] == expected.pop("vit.norm.bias")[0] == 0.65
    assert ours.pop("vit.norm.weight")[0] == ours.pop("vit.norm.bias")[0] == 1.0
    del expected["vit.head.weight"], expected["vit.head.bias"]
    assert ours == {name: pytest.approx(pair) for name, pair in expected.items()}


@pytest.mark.parametrize("arch", ["test_convnext", "test_resnet", "test_vit"])
def test_layers_of_other_timm_models_equal_timm(arch: str) -> None:
    model = TimmBackbone(arch, img_size=160)
    ours = settings(model, build(model, 0.7, lr=1.0, **RELEASED))
    twin = timm.create_model(arch, num_classes=7)
    names = {id(parameter): f"model.{name}" for name, parameter in twin.named_parameters()}
    groups = param_groups_layer_decay(twin, weight_decay=0.05, layer_decay=0.7)
    expected = {names[id(p)]: g["lr_scale"] for g in groups for p in g["params"]}
    assert len({lr for lr, _ in ours.values()}) > 2
    assert {name: lr for name, (lr, _) in ours.items()} == {name: pytest.approx(expected[name]) for name in ours}


def test_mmengines_multipliers_also_apply() -> None:
    model = Classifier(ViT(**SIZE))
    found = settings(model, build(model, custom_keys={"head": {"lr_mult": 10.0}, "blocks.0": {"lr_mult": 0.1}}))
    assert found["head.weight"] == (pytest.approx(1.0), 0.05)
    assert found["backbone.vit.blocks.0.mlp.fc1.weight"][0] == pytest.approx(0.1 / 8 * 0.1)


def test_a_rate_of_1_equals_merged_groups() -> None:
    model = Classifier(ViT(**SIZE))
    arguments = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.05}}
    plain = settings(model, MergedGroupsConstructor(arguments, dict(RELEASED))(model).optimizer)
    assert settings(model, build(model, 1.0, **RELEASED)) == plain


def test_the_log_has_a_table_of_groups(caplog: pytest.LogCaptureFixture) -> None:
    model = Classifier(ViT(**SIZE))
    model.backbone.vit.pos_embed.requires_grad_(False)
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            optimizer = build(model, **RELEASED)
    finally:
        logger.removeHandler(caplog.handler)
    (message,) = [record.getMessage() for record in caplog.records]
    lines = [line.split() for line in message.splitlines()]
    assert "0.5 per layer (without 1 frozen tensors)" in message
    assert ["backbone", "0", "0.0625", "6.250e-03", "0.05", "2", f"{24 + 24 * 3 * 14 * 14:,}"] in lines
    assert ["other", "1", "1.000e-01", "0.05", "1", "120"] in lines
    assert len(optimizer.param_groups) == 10


@pytest.mark.parametrize("rate", [None, 0, -0.5, 1.5, "0.75", True])
def test_an_invalid_rate_raises(rate: Any) -> None:
    with pytest.raises(ValueError, match=r"paramwise_cfg\.layer_decay_rate=.*write a number"):
        build(Classifier(ViT(**SIZE)), rate)


def test_a_model_without_layers_raises() -> None:
    with pytest.raises(ValueError, match=r"no backbone with known layers.*MergedGroupsConstructor"):
        build(nn.Sequential(nn.Linear(2, 2)))


def test_a_wrong_number_of_layers_raises() -> None:
    with pytest.raises(ValueError, match="num_layers=12, but the backbone has 3: remove the key"):
        build(Classifier(ViT(**SIZE)), num_layers=12)
    build(Classifier(ViT(**SIZE)), num_layers=3)


def test_a_missing_learning_rate_raises() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.lr is missing"):
        LayerDecayConstructor({"optimizer": {"type": "AdamW"}}, {"layer_decay_rate": 0.5})
