"""Small configs that extend the shipped ones, random weights in a training checkpoint, and images to predict for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from runs import ROOT

from proteus.apis import load_config

_VIT = "img_size=28, embed_dim=32, depth=4, num_heads=2, checkpoint=None"
CONFIGS = {
    "depth": f"""
_base_ = "{ROOT}/configs/nyu/vit-ti_linear.py"
model = dict(
    backbone=dict({_VIT}, out_indices=(0, 1, 2, 3)),
    decode_head=dict(embed_dims=32, post_process_channels=(8, 8, 16, 32), channels=16),
    test_cfg=dict(crop_size=28, stride=14),
)
test_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type="LoadImage"),
        dict(type="LoadDepth"),
        dict(type="ResizeImage", scale=(100, 28)),
        dict(type="ToTensor"),
        dict(type="PackDepth"),
    ])
)
""",
    "segmentation": f"""
_base_ = "{ROOT}/configs/ade20k/vit-ti_linear.py"
model = dict(
    data_preprocessor=dict(size=(28, 28), test_cfg=dict(size=(28, 28))),
    backbone=dict({_VIT}, out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[32] * 4, channels=128),
    test_cfg=dict(crop_size=(28, 28), stride=(14, 14)),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (100, 28)
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
""",
    "probe": f"""
_base_ = "{ROOT}/configs/linear_probe/vit-ti.py"
model = dict(backbone=dict({_VIT}), num_classes=7)
test_pipeline = _base_.val_pipeline
test_pipeline[1].scale, test_pipeline[2].crop_size = 32, 28
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
""",
    "finetune": f"""
_base_ = "{ROOT}/configs/finetune/vit-ti.py"
model = dict(
    data_preprocessor=dict(num_classes=7),
    backbone=dict({_VIT}),
    head=dict(num_classes=7, in_channels=32, loss=dict(num_classes=7)),
)
test_pipeline = _base_.val_pipeline
test_pipeline[1].scale, test_pipeline[2].crop_size = 32, 28
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
""",
}


def write_trained(folder: Path, kind: str) -> tuple[Path, Path]:
    """Write ``<kind>.py`` and ``<kind>.pth`` with random weights (seed 0) but for norms and biases."""
    config, checkpoint = folder / f"{kind}.py", folder / f"{kind}.pth"
    config.write_text(CONFIGS[kind])
    torch.save({"meta": {"iter": 6}, "state_dict": random_model(load_config(config)).state_dict()}, checkpoint)
    return config, checkpoint


def random_model(cfg: Config) -> torch.nn.Module:
    """Build a config's model from seed 0."""
    init_default_scope(cfg.default_scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        # Heads start near 0, where every prediction would be the same.
        for part in ("decode_head", "heads", "head"):
            for parameter in getattr(model, part, torch.nn.Module()).parameters():
                parameter.data.normal_(std=0.2)
    return model.eval()


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (48, 36)) -> Path:
    """An image of coarse random colours, ``size`` (width, height)."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path)
    return path
