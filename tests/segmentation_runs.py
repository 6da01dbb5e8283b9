"""Small ADE20K runs: images with masks in the official layout, and configs with a tiny ViT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from runs import ROOT

# Four processes' worth of a recipe in one, at 56 px: 4x4 patches.
CONFIG = """
_base_ = "{recipe}"

model = dict(
    data_preprocessor=dict(size=(56, 56), test_cfg=dict(size=(56, 56))),
    backbone=dict(arch="tiny", img_size=56, embed_dim=24, depth=4, num_heads=2, out_indices=(0, 1, 2, 3),
                  checkpoint="{backbone}"),
    {heads}
    test_cfg=dict(crop_size=(56, 56), stride=(42, 42)),
)
train_pipeline = _base_.train_pipeline
train_pipeline[3].scale, train_pipeline[4].crop_size = (224, 56), (56, 56)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (224, 56)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    pin_memory=False,
    dataset=dict(dataset=dict(data_root="{data}", pipeline=train_pipeline)),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(dataset=dict(data_root="{data}", pipeline=test_pipeline))
)
test_dataloader = val_dataloader
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [dict(type="Resize", scale=(4 * side, side), keep_ratio=True) for side in (42, 56)]
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 2
param_scheduler[1].end = 100
train_cfg = dict(max_iters=6, val_interval=6)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
"""
HEADS = {
    "linear": "decode_head=dict(in_channels=[24] * 4, channels=96),",
    "upernet": "neck=dict(embed_dim=24), decode_head=dict(in_channels=[24] * 4, channels=16), "
    "auxiliary_head=dict(in_channels=24, channels=8),",
}
# Label as the file has it, and the colour of the square or of the background.
_THINGS = {1: (200, 40, 40), 4: (40, 200, 40), 13: (40, 40, 200), 150: (200, 200, 40)}


def write_scenes(root: Path, train: int = 8, val: int = 3) -> Path:
    """ADEChallengeData2016's layout: squares of four classes on a background of no class (0) or of class 3."""
    generator = np.random.default_rng(0)
    for split, count in (("training", train), ("validation", val)):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            height, width = (64, 80) if number % 2 else (72, 60)
            image = generator.integers(90, 130, (height, width, 3), dtype=np.uint8)
            mask = np.full((height, width), 3 * (number % 2), dtype=np.uint8)
            for label, colour in _THINGS.items():
                top, left = (int(generator.integers(0, side - 24)) for side in (height, width))
                image[top : top + 24, left : left + 24] = colour
                mask[top : top + 24, left : left + 24] = label
            Image.fromarray(image).save(root / f"images/{split}/scene_{number:03}.jpg", quality=95)
            Image.fromarray(mask).save(root / f"annotations/{split}/scene_{number:03}.png")
    return root


def write_segmentation_config(path: Path, recipe: str, data: Path, backbone: Path) -> Path:
    """Write a small config that extends ``configs/ade20k/<recipe>.py``."""
    heads = HEADS["linear" if "linear" in recipe else "upernet"]
    text = CONFIG.format(recipe=ROOT / f"configs/ade20k/{recipe}.py", data=data, backbone=backbone, heads=heads)
    path.write_text(text)
    return path
