"""The fine-tuning recipes: their differences and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import init_default_scope

from proteus.apis import check, load_config
from proteus.models import ViT
from proteus.registry import PARAM_SCHEDULERS

pytest.importorskip("mmpretrain")
FOLDER = Path(__file__).parents[2] / "configs/finetune"
# Epochs, warm-up, layer decay, drop path: iBOT's, and MAE-Lite's for Ti.
RECIPES = {
    "ti": (300, 20, 0.85, 0.0),
    "s": (200, 20, 0.75, 0.1),
    "b": (100, 20, 0.65, 0.1),
    "l": (50, 5, 0.75, 0.2),
}


@pytest.mark.parametrize("size", RECIPES)
def test_settings_of_each_size(size: str) -> None:
    cfg = load_config(FOLDER / f"vit-{size}.py")
    epochs, warmup, rate, drop_path = RECIPES[size]
    assert cfg.train_cfg.max_iters == epochs * 1251
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == rate
    backbone = dict(cfg.model.backbone)
    assert backbone.pop("drop_path_rate") == drop_path
    del backbone["type"], backbone["checkpoint"]
    with torch.device("meta"):
        assert ViT(**backbone).embed_dim == cfg.model.head.in_channels
    lrs = learning_rates(cfg, [1.0, rate], [0, warmup * 1251 - 1, epochs * 1251 - 1])
    for (start, peak, end), scale in zip(lrs, (1.0, rate), strict=True):
        assert (start, peak) == (pytest.approx(1e-6 * scale), pytest.approx(1e-3 * scale, rel=1e-3))
        assert end == pytest.approx(1e-6 * scale, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("size", RECIPES)
def test_recipes_are_checked_without_data(size: str) -> None:
    text = check(load_config(FOLDER / f"vit-{size}.py"))
    assert "every part was built" in text
    assert "student.safetensors" in text


def learning_rates(cfg: Any, scales: list[float], iterations: list[int]) -> list[list[float]]:
    """Return the learning rates at these iterations, for one parameter group per scale."""
    init_default_scope("proteus")
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1e-3 * scale} for scale in scales]
    optimizer = torch.optim.AdamW(groups)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(one), default_args={"optimizer": optimizer}) for one in cfg.param_scheduler
    ]
    found: list[list[float]] = [[] for _ in scales]
    for iteration in range(max(iterations) + 1):
        if iteration in iterations:
            for values, group in zip(found, optimizer.param_groups, strict=True):
                values.append(group["lr"])
        optimizer._step_count = 1  # else every step of the schedule warns that the optimizer has made none
        for scheduler in schedulers:
            scheduler.step()
    return found
