import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import DefaultOptimWrapperConstructor

from proteus.apis import load_config
from proteus.apis.dry_run import build_without_memory
from proteus.engine import MergedGroupsConstructor, ProbeConstructor
from proteus.engine.optim.constructors import merge_groups
from proteus.models import DistillHead, LinearProbe, ViT

BACKBONE = {"type": "ViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 4, "num_heads": 3}
WRAPPER = ConfigDict(type="OptimWrapper", optimizer={"type": "SGD", "momentum": 0.9})


class StudentAndHead(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = ViT("tiny", img_size=28, embed_dim=24, depth=2, num_heads=2, mask_token=True)
        self.head = DistillHead(24, 8)

    def forward(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return self.head(self.student(images, masks).cls).square().mean()


def arguments() -> dict:
    recipe = load_config("configs/proteus/vit-ti_dinov2-s.py").optim_wrapper
    return {
        "optim_wrapper_cfg": {"type": "OptimWrapper", "optimizer": dict(recipe.optimizer)},
        "paramwise_cfg": dict(recipe.paramwise_cfg),
    }


def test_the_recipe_has_two_groups() -> None:
    model = StudentAndHead()
    optimizer = MergedGroupsConstructor(**arguments())(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ([names[id(p)] for p in group["params"]] for group in optimizer.optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.optimizer.param_groups] == [0.05, 0.0]
    assert sorted(decayed + spared) == sorted(names.values())
    assert {"student.vit.cls_token", "student.vit.pos_embed", "student.mask_token", "head.1.weight"} <= set(decayed)
    assert {"student.vit.patch_embed.proj.weight", "student.vit.blocks.0.attn.qkv.weight"} <= set(decayed)
    parameters = dict(model.named_parameters())
    for name in spared:
        assert parameters[name].ndim == 1, name  # norms, biases, LayerScale
    assert not [name for name in decayed if parameters[name].ndim == 1]
    assert "student.vit.blocks.1.ls2.gamma" in spared


def test_the_recipes_distiller_has_two_groups() -> None:
    cfg = load_config("configs/proteus/vit-ti_dinov2-s.py")
    model = build_without_memory(cfg.model)
    optimizer = MergedGroupsConstructor(**arguments())(model)
    assert [group["weight_decay"] for group in optimizer.optimizer.param_groups] == [0.05, 0.0]
    assert sum(len(group["params"]) for group in optimizer.optimizer.param_groups) == len(list(model.parameters()))


def test_custom_keys_spare_position_embedding_and_cls_token() -> None:
    options = arguments()
    options["paramwise_cfg"]["custom_keys"] = {"pos_embed": {"decay_mult": 0.0}, "cls_token": {"decay_mult": 0.0}}
    model = StudentAndHead()
    optimizer = MergedGroupsConstructor(**options)(model)
    decay = {id(p): group["weight_decay"] for group in optimizer.optimizer.param_groups for p in group["params"]}
    assert decay[id(model.student.vit.pos_embed)] == decay[id(model.student.vit.cls_token)] == 0.0
    assert decay[id(model.student.mask_token)] == 0.05
    assert len(optimizer.optimizer.param_groups) <= 3


def test_steps_equal_mmengine() -> None:
    torch.manual_seed(0)
    merged = StudentAndHead()
    plain = copy.deepcopy(merged)
    images, masks = torch.randn(4, 3, 28, 28), torch.rand(4, 4) < 0.5
    for constructor, model in ((MergedGroupsConstructor, merged), (DefaultOptimWrapperConstructor, plain)):
        optimizer = constructor(**arguments())(model)
        for _ in range(3):
            optimizer.update_params(model(images, masks))
    for (name, one), other in zip(merged.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7, msg=name)


def test_groups_with_equal_options_are_merged() -> None:
    a, b, c, d = ([torch.zeros(1)] for _ in range(4))
    groups = [
        {"params": a, "lr": 1.0, "weight_decay": 0.1},
        {"params": b, "lr": 1.0},
        {"params": c, "weight_decay": 0.1, "lr": 1.0},
        {"params": d, "lr": 2.0, "weight_decay": 0.1},
    ]
    merged = merge_groups(groups)
    assert [[id(p) for p in group["params"]] for group in merged] == [[id(a[0]), id(c[0])], [id(b[0])], [id(d[0])]]
    assert merged[1] == {"params": b, "lr": 1.0}


def test_without_paramwise_options() -> None:
    options = {**arguments(), "paramwise_cfg": None}
    (group,) = MergedGroupsConstructor(**options)(StudentAndHead()).optimizer.param_groups
    assert group["weight_decay"] == pytest.approx(0.05)


def test_the_probe_has_a_group_for_each_learning_rate() -> None:
    probe = LinearProbe(BACKBONE, num_classes=3, learning_rates=(0.1, 0.001))
    groups = ProbeConstructor(WRAPPER)(probe).optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.1, 0.001]
    names = {id(parameter): name for name, parameter in probe.named_parameters()}
    for index, group in enumerate(groups):
        assert {names[id(parameter)] for parameter in group["params"]} == {
            f"heads.{inputs}.{kind}.{index}"
            for inputs in ("blocks1", "blocks1_avgpool", "blocks4", "blocks4_avgpool")
            for kind in ("weights", "biases")
        }
        assert (group["momentum"], group["weight_decay"]) == (0.9, 0)


def test_options_that_the_probe_does_not_support_raise() -> None:
    with_rate = ConfigDict(type="OptimWrapper", optimizer={"type": "SGD", "lr": 0.1})
    with pytest.raises(ValueError, match=r"optimizer\.lr.*model\.learning_rates"):
        ProbeConstructor(with_rate)
    with pytest.raises(ValueError, match=r"paramwise_cfg.*remove"):
        ProbeConstructor(WRAPPER, {"bias_lr_mult": 2.0})
    with pytest.raises(ValueError, match="type='LinearProbe', not Linear"):
        ProbeConstructor(WRAPPER)(torch.nn.Linear(2, 2))
