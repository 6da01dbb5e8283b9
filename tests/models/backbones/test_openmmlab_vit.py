"""OpenMMLab's arguments and methods on our backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from proteus.models import DenseViT, ViT
from proteus.registry import MODELS
from proteus.structures import UserError

SIZES: dict[str, Any] = {"arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 3, "num_heads": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_file(ViT(**SIZES).timm_state(), tmp_path / "vit.safetensors")
    return tmp_path / "vit.safetensors"


def test_three_names_of_a_weight_file(file: Path) -> None:
    wanted = ViT(checkpoint=file, **SIZES).timm_state()
    for options in (
        {"pretrained": str(file)},
        {"init_cfg": {"type": "Pretrained", "checkpoint": str(file), "prefix": "backbone."}},
        {"checkpoint": file, "pretrained": None, "init_cfg": None},
    ):
        found = ViT(**options, **SIZES).timm_state()  # type: ignore[arg-type]
        assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pretrained": True}, "pretrained=True: nothing is downloaded"),
        ({"pretrained": 3}, "pretrained=3: write checkpoint=FILE"),
        ({"init_cfg": {"type": "TruncNormal"}}, "the backbone initialises itself"),
        ({"init_cfg": "x.pth"}, "the backbone initialises itself"),
        ({"init_cfg": {"type": "Pretrained"}}, "the backbone initialises itself"),
        ({"init_cfg": {"type": "Pretrained", "checkpoint": "a", "file": 1}}, "unknown key 'file'"),
        ({"pretrained": "a.pth", "checkpoint": "b.pth"}, "checkpoint and pretrained name a file each"),
    ],
)
def test_what_cannot_be_done_is_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        ViT(**options, **SIZES)
    assert "\n" not in str(refused.value)


def test_sizes_written_twice() -> None:
    vit = ViT(**{**SIZES, "img_size": (28, 28), "patch_size": [14, 14]})
    assert (vit.img_size, vit.patch_size, vit.grid) == (28, 14, (2, 2))
    with pytest.raises(ValueError, match=r"img_size=\(28, 56\): write one side in pixels"):
        ViT(**{**SIZES, "img_size": (28, 56)})


@pytest.mark.parametrize("stages", [-1, 0, 2, 3])
def test_frozen_stages(stages: int) -> None:
    vit = ViT(frozen_stages=stages, drop_path_rate=0.5, **SIZES).train()
    if stages < 3:
        vit(torch.randn(2, 3, 28, 28)).patches.square().sum().backward()
    trained = {name.removeprefix("vit.") for name, value in vit.named_parameters() if value.grad is not None}
    assert all((value.grad is not None) == value.requires_grad for value in vit.parameters())
    assert any(name.startswith("patch_embed") for name in trained) == (stages < 0)
    assert ("pos_embed" in trained) == ("cls_token" in trained) == (stages < 0)
    for block in range(3):
        assert any(name.startswith(f"blocks.{block}.") for name in trained) == (block >= stages)
        assert vit.vit.blocks[block].training == (block >= stages)
    assert any(name.startswith("norm.") for name in trained) == (stages < 3)


def test_more_frozen_stages_than_blocks() -> None:
    with pytest.raises(ValueError, match="frozen_stages=4: write -1 for none, or up to 3 blocks"):
        ViT(frozen_stages=4, **SIZES)


def test_with_cp_is_gradient_checkpointing() -> None:
    assert ViT(with_cp=True, **SIZES).grad_checkpointing
    assert not ViT(**SIZES).grad_checkpointing


def test_layers_for_mmpretrains_rate_decay() -> None:
    vit = ViT(mask_token=True, reg_tokens=1, **SIZES)
    depths = {name: vit.get_layer_depth(f"backbone.{name}", "backbone.") for name, _ in vit.named_parameters()}
    assert {layers for _, layers in depths.values()} == {5}
    for name, (layer, _) in depths.items():
        block = int(name.split(".")[2]) if name.startswith("vit.blocks.") else None
        assert layer == (4 if name.startswith("vit.norm.") else 0 if block is None else block + 1), name
    assert vit.get_layer_depth("head.fc.weight", "backbone.") == (4, 5)


def test_mmpretrains_constructor_decays_the_rate_by_layer() -> None:
    pytest.importorskip("mmpretrain")
    from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
    from mmpretrain.registry import MODELS as THEIRS

    head = {"type": "LinearClsHead", "in_channels": 24, "num_classes": 3}
    backbone = {"type": "proteus.ViT", **SIZES}
    neck = {"type": "proteus.TokenPooling"}
    model = THEIRS.build({"type": "ImageClassifier", "backbone": backbone, "neck": neck, "head": head})
    constructor = LearningRateDecayOptimWrapperConstructor(
        {"optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.1}}, {"layer_decay_rate": 0.5}
    )
    groups = constructor(model).param_groups
    assert sorted({round(group["lr"], 4) for group in groups}) == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_a_classifier_without_the_neck_is_one_line() -> None:
    pytest.importorskip("mmpretrain")
    from mmpretrain.registry import MODELS as THEIRS

    head = {"type": "LinearClsHead", "in_channels": 24, "num_classes": 3}
    model = THEIRS.build({"type": "ImageClassifier", "backbone": {"type": "proteus.ViT", **SIZES}, "head": head})
    with pytest.raises(UserError, match=r"write model\.neck=dict\(type='proteus\.TokenPooling'\)"):
        model(torch.randn(1, 3, 28, 28), mode="tensor")


def test_negative_and_single_out_indices() -> None:
    images = torch.randn(1, 3, 28, 28)
    dense = DenseViT((-1, 0), **SIZES).eval()
    assert dense.out_indices == (0, 2)
    assert len(dense.channels) == len(dense(images)) == 2
    assert DenseViT(-1, **SIZES).out_indices == (2,)
    with pytest.raises(ValueError, match=r"out_indices=\[2, -1\]: a block is named twice"):
        DenseViT((2, -1), **SIZES)
    assert MODELS.get("DenseViT") is DenseViT


def test_sizes_off_the_grid_in_evaluation_and_in_training() -> None:
    images = torch.randn(1, 3, 33, 45)
    dense = DenseViT((2,), **SIZES)
    assert dense.eval()(images)[0].shape[-2:] == (3, 4)
    assert DenseViT((2,), center_padding=True, **SIZES).train()(images)[0].shape[-2:] == (3, 4)
    words = r"33x45 px do not divide into patches of 14 px: crop or resize them, or write .*center_padding=True"
    with pytest.raises(ValueError, match=words):
        dense.train()(images)
    with pytest.raises(ValueError, match=words):
        DenseViT((2,), center_padding=False, **SIZES).eval()(images)


WRONG = {
    "depth": [0, -1, 2.5, "2", True],
    "embed_dim": [0, -24, "wide", 24.0],
    "num_heads": [0, 5, None.__class__],
    "drop_path_rate": [2, -0.1, 1, float("nan"), "0.1"],
    "init_values": ["small", float("inf"), True, [1.0]],
    "reg_tokens": [-1, 1.5],
    "img_size": [0, -28, 28.0, "28", None],
    "patch_size": [0, -14, "14"],
    "frozen_stages": [-2, 1.5],
    "interpolate_offset": [-1, 2, "x"],
    "arch": ["tinny", 5, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_values_name_the_argument(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=") as refused:
        ViT(**{**SIZES, name: value})
    assert "\n" not in str(refused.value)
