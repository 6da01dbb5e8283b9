"""The ADE20K configs, compared with docs/reproduction.md#ade20k."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

from proteus.apis import check, load_config
from proteus.registry import MODELS, PARAM_SCHEDULERS

pytest.importorskip("mmseg")
FOLDER = Path(__file__).parents[2] / "configs/ade20k"
# Width; iterations, images of all processes and drop path of the fine-tuning.
SIZES = {
    "ti": (192, 60_000, 32, 0.1),
    "s": (384, 60_000, 32, 0.1),
    "b": (768, 60_000, 32, 0.1),
    "l": (1024, 160_000, 16, 0.2),
}
PROCESSES = {"ti": 4, "s": 4, "b": 8, "l": 8}
OTHERS = {
    "vit-s_upernet_released",
    "vit-s_linear-dinov2",
    "vit-s_linear-dinov3",
    "vit-b_linear-dinov3",
    "vit-s16_linear_512",
    "vit-s16_upernet_512",
    "convnext-t_upernet",
}
NAMES = {path.stem for path in FOLDER.glob("*.py")}


def test_all_configs_are_covered() -> None:
    assert {f"vit-{size}_{kind}" for size in SIZES for kind in ("linear", "upernet")} | OTHERS == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_configs_build_without_data(name: str) -> None:
    text = check(load_config(FOLDER / f"{name}.py"))
    for words in ("every part was built", "data/ade/ADEChallengeData2016", "model.backbone.checkpoint"):
        assert words in text


@pytest.mark.parametrize("size", SIZES)
def test_upernet(size: str) -> None:
    cfg = load_config(FOLDER / f"vit-{size}_upernet.py")
    width, iterations, batch, drop_path = SIZES[size]
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == iterations
    assert cfg.train_cfg.val_interval == (16_000 if size == "l" else 2000)
    assert cfg.train_dataloader.batch_size * PROCESSES[size] == batch == cfg.auto_scale_lr.base_batch_size
    backbone = cfg.model.backbone
    assert tuple(backbone.out_indices) == ((7, 11, 15, 23) if size == "l" else (3, 5, 7, 11))
    assert (backbone.drop_path_rate, backbone.final_norm, backbone.img_size) == (drop_path, False, 518)
    head, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
    assert (head.channels, head.pool_scales, head.dropout_ratio) == (width, (1, 2, 3, 6), 0.1)
    assert (auxiliary.in_index, auxiliary.channels, auxiliary.num_convs) == (2, 256, 1)
    assert (head.loss_decode.loss_weight, auxiliary.loss_decode.loss_weight) == (1.0, 0.4)
    adamw = cfg.optim_wrapper.optimizer
    assert (adamw.lr, adamw.betas, adamw.weight_decay) == (1e-4, (0.9, 0.999), 0.05)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.65
    assert (cfg.param_scheduler[0].end, cfg.param_scheduler[1].power, cfg.param_scheduler[1].eta_min) == (
        1500,
        1.0,
        0.0,
    )
    assert dict(cfg.model.test_cfg) == {"mode": "slide", "crop_size": (518, 518), "stride": (345, 345)}


@pytest.mark.parametrize("size", SIZES)
def test_linear(size: str) -> None:
    cfg = load_config(FOLDER / f"vit-{size}_linear.py")
    with torch.device("meta"), DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build({**cfg.model, "backbone": {**cfg.model.backbone, "checkpoint": None}})
    trained = {name: tuple(parameter.shape) for name, parameter in model.named_parameters() if parameter.requires_grad}
    shape = (150, 4 * SIZES[size][0], 1, 1)
    assert trained == {"decode_head.conv_seg.weight": shape, "decode_head.conv_seg.bias": (150,)}
    assert (cfg.train_cfg.max_iters, 4 * cfg.train_dataloader.batch_size) == (60_000, 32)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (8e-4, 0.05)
    assert "constructor" not in cfg.optim_wrapper


def test_dinov3_linear() -> None:
    cfg = load_config(FOLDER / "vit-b_linear-dinov3.py")
    backbone, head = cfg.model.backbone, cfg.model.decode_head
    assert (backbone.out_indices, backbone.final_norm, backbone.frozen) == ((11,), True, True)
    assert (head.in_channels, head.dropout_ratio, head.dropout_first) == ([768], 0.1, True)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (1e-3, (0.9, 0.999), 1e-3)
    assert "clip_grad" not in cfg.optim_wrapper
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (40_000, 5000)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    assert (cfg.model.test_cfg.crop_size, cfg.model.test_cfg.stride) == ((512, 512), (341, 341))
    parameter = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([parameter], lr=1e-3)
    for each in cfg.param_scheduler:  # a tenth of the iterations
        each.end //= 10
    with DefaultScope.overwrite_default_scope("proteus"):
        schedulers = [PARAM_SCHEDULERS.build({**each}, default_args={"optimizer": sgd}) for each in cfg.param_scheduler]
    rates = []
    for _ in range(4000):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        for scheduler in schedulers:
            scheduler.step()
    # DINOv3's WarmupOneCycleLR after its warm-up, and in it up to 3.4 %.
    for step in (200, 2000, 3900):
        assert rates[step] == pytest.approx(1e-3 * (1 + math.cos(math.pi * step / 4000)) / 2, rel=2e-3)
    for step in (10, 70, 140):
        assert rates[step] == pytest.approx(1e-3 * step / 150 * (1 - step / 4000), rel=0.042)
    assert rates[0] == pytest.approx(1e-9)


def test_augmentation() -> None:
    steps = load_config(FOLDER / "vit-s_upernet.py").train_dataloader.dataset.dataset.pipeline
    assert [step.type for step in steps[3:]] == [
        *("RandomResize", "RandomCrop", "RandomFlip", "PhotoMetricDistortion", "PackSegInputs"),
    ]
    assert (steps[3].scale, steps[3].ratio_range, steps[3].keep_ratio) == ((2072, 518), (0.5, 2.0), True)
    assert (steps[4].crop_size, steps[4].cat_max_ratio, steps[5].prob) == ((518, 518), 0.75, 0.5)
    small = load_config(FOLDER / "vit-s16_upernet_512.py")
    assert small.train_dataloader.dataset.dataset.pipeline[3].scale == (2048, 512)
    assert small.test_dataloader.dataset.dataset.pipeline[1].scale == (2048, 512)
    assert dict(small.model.test_cfg) == {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}


def test_released_backbone_is_optional() -> None:
    plain, released = (load_config(FOLDER / f"vit-s_upernet{end}.py") for end in ("", "_released"))
    assert {**released.model, "backbone": {**released.model.backbone, "type": "proteus.DenseViT"}} == plain.model
    assert "383,904" in (FOLDER / "vit-s_upernet_released.py").read_text()
