"""Depth from the command line: checked, trained, resumed, tested and shown, frozen and fine-tuned, in both recipes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, log_lines, options, tool, trained, weights, write_teacher

from proteus.evaluation.metrics.depth import NAMES
from proteus.models import ViT

pytestmark = pytest.mark.slow

SIZES = {"embed_dim": 32, "depth": 4, "num_heads": 2}
CONFIG = """
_base_ = "{root}/configs/nyu/{recipe}.py"

model = dict(
    backbone=dict(
        img_size=28,
        embed_dim=32,
        depth=4,
        num_heads=2,
        out_indices=(0, 1, 2, 3),
        checkpoint="{place}/backbone.safetensors",
    ),
    decode_head=dict(embed_dims=32, post_process_channels=(8, 8, 16, 32), channels=16),
    test_cfg=dict(crop_size=28, stride=14),
)
train_pipeline = _base_.train_pipeline
train_pipeline[4].scale = (52, 36)
train_pipeline[5].size = train_pipeline[10].size = 28
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (100, 28)
tta_pipeline = test_pipeline
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="{place}/nyu", pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root="{place}/nyu", pipeline=test_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(crop=None)
test_evaluator = val_evaluator
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor, param_scheduler[0].end = 1.0, 1
param_scheduler[1].begin, param_scheduler[1].end = 1, 6
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3, max_keep_ckpts=-1))
"""
TOOLBOX = """
_base_ = "{root}/configs/nyu/vit-b_dpt-toolbox.py"

model = dict(
    backbone=dict(
        arch="tiny",
        patch_size=14,
        img_size=28,
        init_values=1.0,
        embed_dim=32,
        depth=4,
        num_heads=2,
        out_indices=(0, 1, 2, 3),
        checkpoint="{place}/backbone.safetensors",
    ),
    decode_head=dict(embed_dims=32, post_process_channels=(8, 8, 16, 32), channels=16, loss_decode=dict(warm_iter=4)),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].box = (1, 1, 35, 47)
train_pipeline[5].size = 28
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="{place}/nyu", pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{place}/nyu"))
test_dataloader = val_dataloader
val_evaluator = dict(crop="garg")
test_evaluator = val_evaluator
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = param_scheduler[2].begin = 2
param_scheduler[2].end = 5
param_scheduler[3].end = param_scheduler[4].begin = 2
param_scheduler[4].end = 6
train_cfg = dict(max_iters=6, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3, max_keep_ckpts=-1))
"""
RECIPES = ("vit-ti_dpt", "vit-ti_linear", "toolbox")


def write_frames(folder: Path) -> None:
    """Frames of 48x36 px in the toolbox's layout; depth is 1 to 4 m by redness, and unknown at the top."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        lines = []
        for number in range(count):
            scene = folder / f"{split}room_{number % 2}"
            scene.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(generator.integers(0, 255, (3, 4, 3), dtype=np.uint8))
            image = coarse.resize((48, 36), Image.Resampling.BICUBIC)
            names = f"rgb_{number:05}.png", f"sync_depth_{number:05}.png"
            image.save(scene / names[0])
            depth = (1000 + np.asarray(image)[..., 0].astype(np.float64) / 255 * 3000).astype(np.uint16)
            depth[:4] = 0
            Image.fromarray(depth).save(scene / names[1])
            lines.append(f"/{scene.name}/{names[0]} /{scene.name}/{names[1]} 518.8579")
        (folder / f"nyu_{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``nyu``, ``backbone.safetensors`` and a config for each recipe."""
    folder = tmp_path_factory.mktemp("depth")
    write_frames(folder / "nyu")
    write_teacher(folder / "backbone.safetensors", img_size=28, **SIZES)
    for recipe in RECIPES:
        text = TOOLBOX if recipe == "toolbox" else CONFIG
        (folder / f"{recipe}.py").write_text(text.format(root=ROOT, place=folder, recipe=recipe))
    return folder


@pytest.fixture(scope="module", params=RECIPES)
def run(request: pytest.FixtureRequest, place: Path) -> tuple[str, Path, str]:
    """Name of the recipe, work directory and output of a run that was left alone."""
    recipe = request.param
    assert "every part was built" in trained("train.py", place / f"{recipe}.py", "--check")
    output = trained("train.py", place / f"{recipe}.py", "--work-dir", place / "run" / recipe)
    return recipe, place / "run" / recipe, output


def figures(output: str) -> dict[str, float]:
    """The errors in the last line that reports any."""
    line = [line for line in output.splitlines() if "depth/rmse:" in line][-1]
    return {name: float(value) for name, value in re.findall(r"depth/(\w+): ([\d.]+)", line)}


def test_it_trains_is_validated_and_keeps_the_best(run: tuple[str, Path, str], place: Path) -> None:
    recipe, work_dir, output = run
    lines = log_lines(output)
    assert len(lines) == 6
    loss = "loss_depth" if recipe == "toolbox" else "loss_silog"
    assert all(loss in line for line in lines)
    assert len(re.findall(r"Iter\(val\) .*depth/rmse", output)) == 2
    assert {"iter_3.pth", "iter_6.pth"} <= {path.name for path in work_dir.glob("*.pth")}
    assert len(list(work_dir.glob("best_depth_rmse_iter_*.pth"))) == 1
    before, after = weights(work_dir / "iter_3.pth"), weights(work_dir / "iter_6.pth")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("decode_head.decoder.reassemble") for name in moved)
    if recipe == "vit-ti_linear":  # to the bit what it was before training
        vit = ViT("tiny", img_size=28, checkpoint=place / "backbone.safetensors", **SIZES)
        assert all(torch.equal(after[f"backbone.{name}"], value) for name, value in vit.state_dict().items())
    else:
        assert any(name.startswith("backbone.") for name in moved)


def test_resumed_is_unbroken(run: tuple[str, Path, str], place: Path, tmp_path: Path) -> None:
    recipe, work_dir, _ = run
    trained("train.py", place / f"{recipe}.py", "--work-dir", tmp_path, "--resume", work_dir / "iter_3.pth")
    ours, theirs = (torch.load(folder / "iter_6.pth", weights_only=False) for folder in (tmp_path, work_dir))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]


def test_the_nine_errors_and_pictures(run: tuple[str, Path, str], place: Path, tmp_path: Path) -> None:
    recipe, work_dir, output = run
    tested = trained(
        *("test.py", place / f"{recipe}.py", work_dir / "iter_6.pth", "--work-dir", tmp_path),
        *("--show-dir", place / "shown" / recipe, "--tta"),
    )
    assert list(figures(tested)) == list(NAMES)
    # Both recipes average with the mirror image anyway, and what was validated last was this checkpoint.
    assert figures(tested) == figures(output)
    shown = place / "shown" / recipe
    pictures = {str(path.relative_to(shown)) for path in shown.rglob("*.png")}
    assert pictures == {"testroom_0/rgb_00000.png", "testroom_1/rgb_00001.png", "testroom_0/rgb_00002.png"}
    picture = np.asarray(Image.open(shown / "testroom_0/rgb_00000.png").convert("RGB"))
    assert picture.shape[1] > 2 * picture.shape[0] > 300


def test_two_ranks(place: Path, tmp_path: Path) -> None:
    """Their batch norms see half a batch each, so that the losses are near and not the same."""
    values = options({"train_dataloader.batch_size": 2})
    output = trained("train.py", place / "vit-ti_dpt.py", "--work-dir", tmp_path, *values, ranks=2)
    assert len(log_lines(output)) == 6
    assert list(figures(output)) == list(NAMES)


CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "crop off the grid of patches": (
        {"train_dataloader.dataset.pipeline.5.size": 30, "train_dataloader.dataset.pipeline.10.size": 30},
        ("30x30 px", "patches of 14 px", "28x28"),
    ),
    "window off the grid of patches": ({"model.test_cfg.crop_size": 30}, ("model.test_cfg.crop_size", "14")),
    "no backbone": (
        {"model.backbone.checkpoint": "{tmp}/gone.safetensors"},
        ("model.backbone.checkpoint", "{tmp}/gone.safetensors"),
    ),
    "head of another width": ({"model.decode_head.embed_dims": 48}, ("embed_dims=48", "width 32: write 32")),
    "wrong scale of metres": ({"train_dataloader.dataset.depth_scale": 1}, ("depth_scale",)),
    "Eigen's crop on small frames": ({"val_evaluator.crop": "eigen"}, ("36x48 px", "480x640", "val_evaluator")),
    "a key that is not there": ({"model.decode_head.readout": "add"}, ("readout", "readout_type")),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_a_sentence(case: str, place: Path, tmp_path: Path) -> None:
    values, words = CASES[case]
    values = {key: str(value).format(tmp=tmp_path) for key, value in values.items()}
    done = tool("train.py", place / "vit-ti_dpt.py", "--work-dir", tmp_path, *options(values))
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert not log_lines(done.stdout + done.stderr)
    for word in words:
        assert word.format(tmp=tmp_path) in done.stderr.split("error:")[-1]
