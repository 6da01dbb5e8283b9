"""MMEngine's own Runner, without our tools, on every config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from mmengine.runner import Runner
from PIL import Image
from runs import CONFIG, RECIPE, ROOT, write_images, write_teacher
from segmentation_runs import write_scenes, write_segmentation_config

from proteus.apis.training import build_runner

CONFIGS = sorted(
    path
    for path in [*(ROOT / "configs").rglob("*.py"), *(ROOT / "projects").glob("*/configs/**/*.py")]
    if "_base_" not in path.parts
)
WITHOUT_WORKERS = "num_workers=0, persistent_workers=False, pin_memory=False"
TINY = 'arch="tiny", img_size=56, embed_dim=48, depth=2, num_heads=3'


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Runner, "_log_env", lambda *_: None)  # asks compilers for their versions, for seconds
    monkeypatch.setattr(Config, "pretty_text", "")  # yapf, likewise
    before = list(logging.getLogger("mmengine").handlers)
    yield
    logging.getLogger("mmengine").handlers[:] = before


class StandIn(BaseModel):
    """In place of a config's model, which takes seconds to build; the tests of ``--check`` build it."""

    def forward(self, **batch: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT).with_suffix("")))
def test_mmengine_builds_a_runner_from_every_config(path: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    if "optim_wrapper" not in cfg:  # a part of others, or a config of tools/evaluate.py
        return
    cfg.work_dir, cfg.experiment_name = str(tmp_path), path.stem + tmp_path.name
    cfg.visualizer = None
    runner = Runner.from_cfg(Config({**cfg.to_dict(), "model": {"type": StandIn}}))
    assert len(runner.hooks) >= len(cfg.default_hooks)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        collate = (cfg.get(loader) or {}).get("collate_fn")
        assert collate is None or ROOT_FUNCTIONS.get(collate.type) is not None


def distillation(folder: Path) -> str:
    teacher = write_teacher(folder / "teacher.safetensors")
    return CONFIG.format(recipe=RECIPE, teacher=teacher, images=write_images(folder / "images", 8))


def segmentation(folder: Path) -> str:
    pytest.importorskip("mmseg")
    backbone = write_teacher(folder / "backbone.safetensors", embed_dim=24, depth=4, num_heads=2, init_values=1.0)
    path = write_segmentation_config(
        folder / "scenes.py", "vit-ti_linear", write_scenes(folder / "scenes", 4, 1), backbone
    )
    return path.read_text() + "train_dataloader.update(num_workers=0, persistent_workers=False)\n"


def classification(folder: Path, recipe: str, model: str) -> str:
    write_teacher(folder / "backbone.safetensors", embed_dim=48, num_heads=3, init_values=1.0)
    for number in range(9):
        image = np.full((48, 64, 3), 25 * number, np.uint8)
        path = folder / "images" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    data = f'dataset=dict(data_root="{folder / "images"}", num_classes=3'
    return f"""
_base_ = "{ROOT / recipe}"
model = dict(backbone=dict({TINY}, checkpoint="{folder / "backbone.safetensors"}"), {model})
train_pipeline, val_pipeline = _base_.train_pipeline, _base_.val_pipeline
for step in (*train_pipeline, *val_pipeline):
    for key in {"scale", "crop_size"} & step.keys():
        step[key] = 56
train_dataloader = dict(batch_size=4, {WITHOUT_WORKERS}, {data}, pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, {WITHOUT_WORKERS}, {data}, pipeline=val_pipeline))
test_dataloader = val_dataloader
"""


def linear_probe(folder: Path) -> str:
    return classification(folder, "configs/linear_probe/vit-ti.py", "num_classes=3, layers=(1, 2)")


def finetuning(folder: Path) -> str:
    pytest.importorskip("mmpretrain")
    parts = "data_preprocessor=dict(num_classes=3), head=dict(in_channels=48, num_classes=3, loss=dict(num_classes=3))"
    text = classification(folder, "configs/finetune/vit-ti.py", parts)
    return text + "val_evaluator = dict(topk=(1, 2))\ntest_evaluator = val_evaluator\n"


def depth(folder: Path) -> str:
    write_teacher(folder / "backbone.safetensors", img_size=28, embed_dim=32, depth=4, num_heads=2)
    for split in ("train", "test"):
        scene = folder / "nyu" / f"{split}room"
        scene.mkdir(parents=True)
        lines = []
        for number in range(4):
            names = f"rgb_{number:05}.png", f"sync_depth_{number:05}.png"
            Image.fromarray(np.full((36, 48, 3), 40 * number, np.uint8)).save(scene / names[0])
            Image.fromarray(np.full((36, 48), 1000 + number, np.uint16)).save(scene / names[1])
            lines.append(f"/{scene.name}/{names[0]} /{scene.name}/{names[1]} 518.8579\n")
        (folder / "nyu" / f"nyu_{split}.txt").write_text("".join(lines))
    data = f"data = dict(data_root='{folder}/nyu')"
    return f"""
_base_ = "{ROOT}/configs/nyu/vit-ti_linear.py"
model = dict(
    backbone=dict(img_size=28, embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3),
                  checkpoint="{folder}/backbone.safetensors"),
    decode_head=dict(embed_dims=32, post_process_channels=(8, 8, 16, 32), channels=16, norm="BN"),
    test_cfg=dict(crop_size=28, stride=14),
)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[4].scale = (52, 36)
train_pipeline[5].size = train_pipeline[10].size = 28
test_pipeline[2].scale = (100, 28)
{data}
train_dataloader = dict(batch_size=4, {WITHOUT_WORKERS}, dataset=dict(data, pipeline=train_pipeline))
val_dataloader = dict({WITHOUT_WORKERS}, dataset=dict(data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(crop=None)
test_evaluator = val_evaluator
"""


def labels_alone(folder: Path) -> str:
    """A project's config."""
    classification(folder, "configs/finetune/vit-ti.py", "")
    data = f'dataset=dict(data_root="{folder / "images"}", num_classes=3, images_per_class=None)'
    return f"""
_base_ = "{ROOT}/projects/task_oriented_transfer/configs/packaged/finetune.py"
model = dict(objectives=dict(task=dict(num_classes=3)))
train_dataloader = dict(batch_size=4, {data})
val_dataloader = dict(batch_size=4, {data.replace(", images_per_class=None", "")})
test_dataloader = val_dataloader
"""


FAMILIES = [distillation, segmentation, linear_probe, finetuning, depth, labels_alone]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_mmengine_trains_one_config_of_each_family(family: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / f"small_{family.__name__}.py"
    path.write_text(family(tmp_path))
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path / "run")
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.visualizer = None
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.named_parameters() if value.requires_grad}
    runner.train()
    assert runner.iter == 2
    assert any(
        not torch.equal(value, before[name]) for name, value in runner.model.named_parameters() if name in before
    )
    assert (tmp_path / "run/iter_2.pth").is_file()


def test_our_runner_drops_a_hook_set_to_none(tmp_path: Path) -> None:
    """MMEngine's refuses None for other hooks than its own six, so no config of ours has any."""
    path = tmp_path / "small_hooks.py"
    path.write_text(
        distillation(tmp_path) + "default_hooks.update(online_eval=None, corrupt_images=None, timer=None)\n"
    )
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.visualizer = str(tmp_path / "run"), None
    names = {type(hook).__name__ for hook in build_runner(cfg).hooks}
    assert not names & {"OnlineEvalHook", "CorruptImageHook", "IterTimerHook"}
    assert {"ProxySetHook", "ExportStudentHook"} <= names
