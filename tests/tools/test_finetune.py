"""Fine-tuning through mmpretrain's classifier, in real processes on tiny labelled images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, log_lines, options, tool, trained, weights, write_teacher
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

CLASSES = ("red", "green", "blue")

CONFIG = """
_base_ = "{recipe}"

model = dict(
    data_preprocessor=dict(num_classes=3),
    backbone=dict(arch="tiny", img_size=56, embed_dim=48, depth=2, num_heads=3, drop_path_rate=0.1,
                  checkpoint="{backbone}"),
    head=dict(in_channels=48, num_classes=3, loss=dict(num_classes=3)),
)
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 56
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 64, 56
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(data_root="{images}", num_classes=3, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root="{images}", num_classes=3, pipeline=val_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 2))
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 2
param_scheduler[1].end = 100
train_cfg = dict(max_iters=16, val_interval=16)
custom_hooks = [dict(type="EMAHook", momentum=0.1)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=8))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images`` of a red, a green and a blue class, ``backbone.safetensors`` and ``small.py``."""
    pytest.importorskip("mmpretrain")
    folder = tmp_path_factory.mktemp("finetune")
    generator = np.random.default_rng(0)
    for number in range(24):
        pixels = generator.integers(0, 90, (6, 8, 3), dtype=np.uint8)
        pixels[..., number % 3] += 160
        path = folder / "images" / CLASSES[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC).save(path)
    write_teacher(folder / "backbone.safetensors", embed_dim=48, num_heads=3, init_values=1.0)
    (folder / "small.py").write_text(
        CONFIG.format(
            recipe=ROOT / "configs/finetune/vit-ti.py",
            backbone=folder / "backbone.safetensors",
            images=folder / "images",
        )
    )
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> tuple[Path, str]:
    """Work directory and output of a run that was left alone."""
    return place / "run", trained("train.py", place / "small.py", "--work-dir", place / "run")


def accuracy(output: str, phase: str) -> float:
    return float(re.findall(rf"\({phase}\).*accuracy/top1: ([\d.]+)", output)[-1])


def test_a_run_logs_its_groups_and_validates_the_average(run: tuple[Path, str]) -> None:
    _, output = run
    assert len(log_lines(output)) == 16
    assert "layer-wise learning-rate decay, 0.85 per layer" in output
    assert re.search(r"backbone 0 +0.614 +1\.8\d+e-03", output)
    losses = [float(re.search(r"loss: ([\d.]+)", line).group(1)) for line in log_lines(output)]  # type: ignore[union-attr]
    assert losses[0] == pytest.approx(np.log(3), abs=0.01)  # the head starts at almost 0
    assert "accuracy/top2" in output


def test_a_test_uses_the_average_and_needs_no_backbone_file(place: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    folder, output = run
    missing = options({"model.backbone.checkpoint": tmp_path / "gone.safetensors"})
    tested = trained("test.py", place / "small.py", folder / "iter_16.pth", "--work-dir", tmp_path, *missing)
    assert accuracy(tested, "test") == accuracy(output, "val")
    saved = torch.load(folder / "iter_16.pth", weights_only=False)
    average, last = saved["state_dict"], saved["ema_state_dict"]  # MMEngine saves the two under each other's name
    name = "backbone.vit.blocks.0.attn.qkv.weight"
    start = load_file(place / "backbone.safetensors")["blocks.0.attn.qkv.weight"]
    assert 0 < (average[name] - start).norm() < (last[f"module.{name}"] - start).norm()


def test_it_starts_from_the_checkpoints_weights(place: Path, tmp_path: Path) -> None:
    still = options({"optim_wrapper.optimizer.lr": 1e-30, "train_cfg.max_iters": 1, "val_dataloader": None})
    still += ["val_cfg=None", "val_evaluator=None", "custom_hooks=None"]
    trained("train.py", place / "small.py", "--work-dir", tmp_path, *still)
    state, start = weights(tmp_path / "iter_1.pth"), load_file(place / "backbone.safetensors")
    for name, value in start.items():
        torch.testing.assert_close(state[f"backbone.vit.{name}"], value, rtol=0, atol=1e-12)
    assert state["head.fc.weight"].abs().max() < 1e-4


def test_a_resumed_run_equals_the_unbroken_one(place: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    output = trained("train.py", place / "small.py", "--work-dir", tmp_path, "--resume", run[0] / "iter_8.pth")
    assert len(log_lines(output)) == 8
    found, wanted = (torch.load(folder / "iter_16.pth", weights_only=False) for folder in (tmp_path, run[0]))
    for part in ("state_dict", "ema_state_dict"):
        assert found[part].keys() == wanted[part].keys()
        for name, value in wanted[part].items():
            assert torch.equal(found[part][name], value), name


def test_a_backbone_of_timms_takes_its_place(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "convnext.py"
    path.write_text(
        f'_base_ = "{place / "small.py"}"\n'
        'model = dict(backbone=dict(_delete_=True, type="TimmBackbone", arch="test_convnext", img_size=56),\n'
        "             head=dict(in_channels=64))\n"
        "train_cfg = dict(max_iters=2, val_interval=2)\n"
    )
    assert "accuracy/top1" in trained("train.py", path, "--work-dir", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.backbone.embed_dim": 96, "model.head.in_channels": 96}, ("backbone.safetensors", "width 48", "96")),
        ({"model.head.num_classes": 4}, ("classes differ", "model.head.num_classes = 4", "train_dataloader.dataset")),
        ({"model.head.in_channels": 64}, ("model.head.in_channels=48", "model.neck.pool = 'cls'")),
        ({"model.neck.pool": "cls+avg"}, ("model.head.in_channels=96", "model.neck.pool = 'cls+avg'")),
        ({"model.train_cfg.augments": []}, ("model.train_cfg.augments", "data_preprocessor.mixup")),
        ({"train_dataloader.dataset.num_classes": 4}, ("num_classes=4", "3 class folders")),
        (
            {"optim_wrapper.paramwise_cfg.layer_decay_rate": 2},
            ("layer_decay_rate: found 2", "expected a number above 0"),
        ),
        ({"model.backbone.checkpoint": "gone.safetensors"}, ("model.backbone.checkpoint", "does not exist")),
        ({"model.neck.pool": "max"}, ("neck.pool='max'", "'cls+avg'")),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    place: Path, tmp_path: Path, change: dict[str, object], words: tuple[str, ...]
) -> None:
    done = tool("train.py", place / "small.py", "--work-dir", tmp_path, *options(change))
    assert done.returncode != 0
    assert not log_lines(done.stdout + done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr[-2000:]


def test_a_test_set_of_other_classes_is_refused(place: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    for name in CLASSES[:2]:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).symlink_to(place / "images" / name)
    data = options({"test_dataloader.dataset.data_root": tmp_path / "images", "test_dataloader.dataset.num_classes": 2})
    done = tool("test.py", place / "small.py", run[0] / "iter_16.pth", "--work-dir", tmp_path, *data)
    assert done.returncode == 2
    assert "the folders of test_dataloader.dataset = 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_test_image_that_cannot_be_read_ends_the_test(place: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in (place / "images" / name).iterdir():
            (tmp_path / "images" / name / image.name).write_bytes(image.read_bytes())
    broken = next((tmp_path / "images/red").iterdir())
    broken.write_bytes(b"no image")
    data = options({"test_dataloader.dataset.data_root": tmp_path / "images"})
    done = tool("test.py", place / "small.py", run[0] / "iter_16.pth", "--work-dir", tmp_path, *data)
    assert done.returncode == 2
    assert str(broken) in done.stderr
    assert "Traceback" not in done.stderr


def test_without_mmpretrain_one_line_says_what_to_install(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mmpretrain").mkdir()
    (tmp_path / "mmpretrain/__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'mmpretrain'\")")
    done = tool("train.py", place / "small.py", "--work-dir", tmp_path / "run", path=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = {line.strip() for line in done.stderr.splitlines() if "pip install" in line}
    assert "pip install onedl-mmpretrain" in line


def test_a_recipe_passes_the_check_without_data() -> None:
    """tests/configs/test_finetune.py has the other sizes."""
    pytest.importorskip("mmpretrain")
    output = trained("train.py", ROOT / "configs/finetune/vit-ti.py", "--check")
    assert "every part was built" in output
    assert "student.safetensors" in output
