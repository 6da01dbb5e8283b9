"""The depth configs, compared with docs/reproduction.md#nyu-depth-v2."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from proteus.apis import check, load_config
from proteus.apis.dry_run import build_without_memory
from proteus.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS

FOLDER = Path(__file__).parents[2] / "configs/nyu"
# Width, blocks that are read, learning rate of fine-tuning.
SIZES = {
    "vit-ti": (192, (3, 5, 7, 11), 4e-4),
    "vit-s": (384, (3, 5, 7, 11), 4e-4),
    "vit-b": (768, (3, 5, 7, 11), 1e-4),
    "vit-l": (1024, (7, 11, 15, 23), 1e-4),
}


def test_all_configs_are_covered() -> None:
    names = {f"{size}_{kind}" for size in SIZES for kind in ("linear", "dpt")} | {"vit-b_dpt-toolbox"}
    names |= {"vit-s_linear-dinov3", "vit-b_linear-dinov3"}
    assert {path.stem for path in FOLDER.glob("*.py")} == names


@pytest.mark.parametrize("kind", ["linear", "dpt"])
@pytest.mark.parametrize("size", SIZES)
def test_configs_build_without_data(size: str, kind: str) -> None:
    cfg = load_config(FOLDER / f"{size}_{kind}.py")
    width, blocks, rate = SIZES[size]
    text = check(cfg)
    assert f"work_dirs/{size}_dinov2-" in text
    assert "data/nyu" in text
    everything, trained = (float(found) for found in re.findall(r"(?:model|trained) +([\d.]+) M parameters", text))
    head = sum(p.numel() for p in build_without_memory(cfg.model).decode_head.parameters()) / 1e6
    # Of a fine-tuned model all but the backbone's last norm, which the head does not read.
    assert trained == pytest.approx(head if kind == "linear" else everything, abs=0.0101)
    assert cfg.model.backbone.out_indices == blocks
    assert cfg.model.decode_head.embed_dims == width
    assert cfg.model.decode_head.post_process_channels == (width // 8, width // 4, width // 2, width)
    assert cfg.optim_wrapper.optimizer.lr == (4e-4 if kind == "linear" else rate)
    assert cfg.model.freeze_backbone == (kind == "linear")


def test_released_settings() -> None:
    cfg = load_config(FOLDER / "vit-b_dpt.py")
    steps = {step.type: step for step in cfg.train_pipeline}
    assert list(steps) == [
        *("LoadImage", "LoadDepth", "CutDepth", "DepthRandomFlip", "DepthRandomResize", "DepthRandomCrop"),
        *("RandomBrightnessContrast", "RandomGamma", "HueSaturationValue", "ToTensor", "DepthPad", "PackDepth"),
    ]
    assert (steps["CutDepth"].prob, steps["CutDepth"].wrap, steps["DepthRandomFlip"].prob) == (0.25, True, 0.5)
    assert steps["DepthRandomResize"].scale == (770, 512)
    assert steps["DepthRandomResize"].ratio_range == (0.8, 1.5)
    assert steps["DepthRandomCrop"].size == steps["DepthPad"].size == 518
    assert {steps[name].prob for name in ("RandomBrightnessContrast", "RandomGamma", "HueSaturationValue")} == {0.5}
    assert cfg.test_pipeline[2].scale == (2044, 518)
    assert 4 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert dict(cfg.model.test_cfg) == {"mode": "slide_flip", "crop_size": 518, "stride": 129}
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == (0.5, 0.5, 0.5)
    head = cfg.model.decode_head
    assert (head.channels, head.readout_type, head.norm, head.output) == (256, "project", "SyncBN", "linear")
    assert (head.dropout_ratio, head.max_depth) == (0.1, None)
    assert dict(head.loss_decode) == {"type": "SiLogLoss", "variance_focus": 0.5, "eps": 1e-6}
    assert (cfg.model.backbone.drop_path_rate, cfg.model.backbone.final_norm) == (0.1, False)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.betas, optimizer.weight_decay) == ("AdamW", (0.9, 0.999), 0.01)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (25000, 1000)
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.save_best, checkpoint.rule, checkpoint.interval) == ("depth/rmse", "less", 1000)
    metric = cfg.test_evaluator
    assert (metric.min_depth, metric.max_depth, metric.crop, metric.clamp) == (1e-3, 10.0, "eigen", False)
    assert (metric.silog_lambda, metric.silog_scale) == (0.5, 1.0)


class Named(nn.Module):
    """Parameters with the names of the depth model's."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.vit = nn.Module()
        self.backbone.vit.pos_embed = nn.Parameter(torch.zeros(1))
        self.backbone.vit.cls_token = nn.Parameter(torch.zeros(1))
        self.backbone.vit.norm1 = nn.LayerNorm(1)
        self.decode_head = nn.Module()
        self.decode_head.norm1 = nn.BatchNorm2d(1)


def build_optimizer(cfg: Any) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Return the optimizer of a config, and the group of each parameter by name."""
    init_default_scope("proteus")
    model = Named()
    settings = dict(cfg.optim_wrapper)
    constructor = {"type": settings.pop("constructor"), "paramwise_cfg": settings.pop("paramwise_cfg")}
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build({**constructor, "optim_wrapper_cfg": settings})(model)
    groups = wrapper.optimizer.param_groups
    found = {
        name: next(g for g in groups if any(p is one for one in g["params"])) for name, p in model.named_parameters()
    }
    return wrapper, found


def test_released_learning_rates() -> None:
    """Positions and cls token: no decay, full rate. Norms of the backbone: decayed, a tenth. The head: decayed."""
    _, groups = build_optimizer(load_config(FOLDER / "vit-b_dpt.py"))
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates["backbone.vit.pos_embed"] == rates["backbone.vit.cls_token"] == (1e-4, 0.0)
    assert rates["backbone.vit.norm1.weight"] == rates["backbone.vit.norm1.bias"] == (pytest.approx(1e-5), 0.01)
    assert rates["decode_head.norm1.weight"] == rates["decode_head.norm1.bias"] == (1e-4, 0.01)


def scheduled(cfg: Any, wrapper: Any, steps: int) -> list[tuple[list[float], float]]:
    """Return the rate of each group and the momentum of the first at each iteration."""
    schedulers = [PARAM_SCHEDULERS.build(dict(one), default_args={"optimizer": wrapper}) for one in cfg.param_scheduler]
    seen = []
    for _ in range(steps):
        groups = wrapper.optimizer.param_groups
        seen.append(([group["lr"] for group in groups], groups[0]["betas"][0]))
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return seen


def test_released_schedule() -> None:
    cfg = load_config(FOLDER / "vit-b_dpt.py")
    wrapper, groups = build_optimizer(cfg)
    place = wrapper.optimizer.param_groups.index(groups["decode_head.norm1.weight"])
    rates = [one[place] for one, _ in scheduled(cfg, wrapper, 25000)]
    assert rates[0] == pytest.approx(1e-10)
    assert max(rates) == pytest.approx(1e-4, rel=1e-3)
    assert rates.index(max(rates)) in (1499, 1500)
    assert rates[13250] == pytest.approx(0.5e-4, rel=1e-2)
    assert 0 <= rates[-1] < 1e-8


@pytest.mark.slow
def test_toolbox_cycle_equals_torch() -> None:
    cfg = load_config(FOLDER / "vit-b_dpt-toolbox.py")
    wrapper, _ = build_optimizer(cfg)
    total = cfg.train_cfg.max_iters
    assert total == 24 * (24231 // 16)
    other = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        other, max_lr=1e-4, total_steps=total, pct_start=0.3, div_factor=25, final_div_factor=100
    )
    for number, (rates, momentum) in enumerate(scheduled(cfg, wrapper, total - 1)):
        # One peak for all groups: the backbone learns at the full rate. The peak is at a whole iteration here.
        assert rates == pytest.approx([other.param_groups[0]["lr"]] * len(rates), rel=2e-4), number
        assert momentum == pytest.approx(other.param_groups[0]["betas"][0], abs=1e-4), number
        other.step()
        torchs.step()


def test_toolbox_cycle_follows_the_optimizers_rate() -> None:
    """Overrides, multipliers and ``auto_scale_lr``, which multiplies the groups' rates before schedules are built."""
    cfg = load_config(FOLDER / "vit-b_dpt-toolbox.py", {"optim_wrapper.optimizer.lr": 3e-4})
    cfg.optim_wrapper.paramwise_cfg.custom_keys.backbone = {"lr_mult": 0.1}
    for scheduler in cfg.param_scheduler[1:]:  # a hundredth of the iterations
        scheduler.begin, scheduler.end = scheduler.begin // 100, scheduler.end // 100
    wrapper, groups = build_optimizer(cfg)
    places = [
        wrapper.optimizer.param_groups.index(groups[f"{part}.norm1.weight"]) for part in ("backbone.vit", "decode_head")
    ]
    for group in wrapper.optimizer.param_groups:
        group["lr"] *= 2
    seen = [rates for rates, _ in scheduled(cfg, wrapper, cfg.train_cfg.max_iters // 100)]
    for place, peak in zip(places, (6e-5, 6e-4), strict=True):
        rates = [each[place] for each in seen]
        assert rates[0] == pytest.approx(peak / 25)
        assert max(rates) == pytest.approx(peak, rel=1e-3)
        assert rates[-1] == pytest.approx(peak / 2500, rel=0.15)  # a hundredth of the iterations is coarse


def test_toolbox_settings() -> None:
    cfg = load_config(FOLDER / "vit-b_dpt-toolbox.py")
    text = check(cfg)
    assert "jx_vit_base_p16_224" in text
    head = cfg.model.decode_head
    assert (head.norm, head.output, head.min_depth, head.max_depth) == (None, "conv", 1e-3, 10.0)
    loss = {key: value for key, value in head.loss_decode.items() if key != "_scope_"}
    assert loss == {"type": "SigLoss", "warm_up": True, "warm_iter": 100, "loss_weight": 1.0}
    assert cfg.model.backbone.out_indices == (2, 5, 8, 11)
    assert cfg.model.test_cfg.mode == "whole_flip"
    steps = {step.type: step for step in cfg.train_pipeline}
    assert list(steps) == [
        *("LoadImage", "LoadDepth", "NYUCrop", "DepthRandomRotate", "DepthRandomFlip", "DepthRandomCrop"),
        *("ToTensor", "ColorAug", "PackDepth"),
    ]
    assert (steps["DepthRandomRotate"].prob, steps["DepthRandomRotate"].degree) == (0.5, 2.5)
    assert steps["DepthRandomCrop"].size == (416, 544)
    assert steps["ColorAug"].brightness_range == (0.75, 1.25)
    assert 8 * cfg.train_dataloader.batch_size == 16
    assert dict(cfg.optim_wrapper.clip_grad) == {"max_norm": 35, "norm_type": 2}
    assert (cfg.test_evaluator.silog_lambda, cfg.test_evaluator.silog_scale) == (1.0, 100.0)


@pytest.mark.parametrize(("size", "width"), [("s", 384), ("b", 768)])
def test_dinov3_linear(size: str, width: int) -> None:
    cfg = load_config(FOLDER / f"vit-{size}_linear-dinov3.py")
    text = check(cfg)
    model = build_without_memory(cfg.model)
    trained = {name: tuple(value.shape) for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {
        "decode_head.norm.weight": (width,),
        "decode_head.norm.bias": (width,),
        "decode_head.conv_depth.weight": (256, width, 1, 1),
        "decode_head.conv_depth.bias": (256,),
    }
    assert "38,400 iterations" in text
    assert (model.backbone.out_indices, model.backbone.final_norm) == ((11,), True)
    assert (model.decode_head.min_depth, model.decode_head.max_depth) == (1e-3, 10.0)
    assert cfg.model.test_cfg.mode == "whole_flip"
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert (steps["DepthRandomCrop"].size, steps["ColorAug"].raw_gamma) == ((420, 546), True)
    assert 8 * cfg.train_dataloader.batch_size == 16
    assert (cfg.val_evaluator.crop, cfg.train_cfg.val_interval) == ("eigen", 1600)


def test_dinov3_schedule() -> None:
    """Rates and beta1 of DINOv3's WarmupOneCycleLR, written from its formulas."""
    cfg = load_config(FOLDER / "vit-s_linear-dinov3.py")
    init_default_scope("proteus")
    settings = dict(cfg.optim_wrapper)
    assert (settings["clip_grad"]["max_norm"], settings["optimizer"].weight_decay) == (35, 1e-4)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=3e-4, betas=settings["optimizer"].betas)
    for scheduler in cfg.param_scheduler:  # a tenth of the iterations
        scheduler.begin, scheduler.end = scheduler.begin // 10, scheduler.end // 10
    seen = scheduled(cfg, OptimWrapper(optimizer), 3840)
    assert optimizer.param_groups[0]["betas"][1] == 0.99
    for step in (0, 60, 600, 1270, 1290, 2500, 3800):
        cosine = 3e-4 * (1 + math.cos(math.pi * step / 3840)) / 2
        expected = 3e-7 + cosine * step / 1280 if step < 1280 else cosine
        assert seen[step][0][0] == pytest.approx(expected, rel=3e-3, abs=2e-8)
        rise = (1 - math.cos(math.pi * (step - 1280) / 2560)) / 2
        assert seen[step][1] == pytest.approx(0 if step < 1280 else 0.85 + 0.1 * rise, abs=2e-4)


def test_readme_lists_all_configs() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for size in SIZES:
        assert f"[{size}_dpt]({size}_dpt.py)" in text
        assert f"[{size}_linear]({size}_linear.py)" in text
