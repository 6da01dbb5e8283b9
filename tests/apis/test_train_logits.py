"""A recipe of the ablations on labels and logits, small."""

import re
from pathlib import Path

import pytest
import torch
from runs import ROOT, trained, write_images, write_teacher
from safetensors.torch import save_file

from proteus.apis import check, load_config
from proteus.checkpoints import CheckpointError

SMALL = """
_base_ = "{recipe}"

weights = "{folder}/teacher.safetensors"
model = dict(
    teacher=dict(
        backbone=dict(arch="tiny", img_size=56, embed_dim=64, depth=4, num_heads=4, checkpoint=weights),
        classifier=dict(num_classes=2, checkpoint="{folder}/head.safetensors"),
    ),
    student=dict(arch="tiny", img_size=56, embed_dim=32, depth=4, num_heads=2),
    init_from=dict(type="WeightSelection", checkpoint=weights),
    objectives=dict(logits=dict(num_classes=2)),
)
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 56
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 64, 56
loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
images = dict(data_root="{folder}/images", num_classes=2)
train_dataloader = dict(
    **loader, pin_memory=False, sampler=dict(repeats=1), dataset=dict(**images, pipeline=train_pipeline)
)
val_dataloader = dict(**loader, dataset=dict(**images, pipeline=val_pipeline, indices=None))
test_dataloader = val_dataloader
param_scheduler = dict(epochs=10, iters_per_epoch=3, warmup_epochs=1, warmup_lr=1e-3)
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1000))
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")  # in two folders, "a" and "c"
    write_teacher(tmp_path / "teacher.safetensors", depth=4)
    generator = torch.Generator().manual_seed(0)
    head = {"weight": torch.randn(2, 5 * 64, generator=generator), "bias": torch.zeros(2)}
    save_file(head, tmp_path / "head.safetensors")
    recipe = ROOT / "configs/proteus/ablations/vit-s_dinov2-b_hard-logits-ce.py"
    (tmp_path / "small.py").write_text(SMALL.format(recipe=recipe, folder=tmp_path))
    return tmp_path / "small.py"


def test_check_compares_classifier_and_inheritance(small: Path) -> None:
    assert "24 images" in check(load_config(small))
    save_file({"weight": torch.zeros(2, 64), "bias": torch.zeros(2)}, small.parent / "head.safetensors")
    with pytest.raises(CheckpointError, match="write layers=1, avgpool=False, num_classes=2"):
        check(load_config(small))


def test_check_reports_that_nothing_can_be_inherited(small: Path) -> None:
    narrow = write_teacher(small.parent / "narrow.safetensors", embed_dim=16, depth=4)
    with pytest.raises(CheckpointError, match="at least as large"):
        check(load_config(small, {"model.init_from.checkpoint": str(narrow)}))


@pytest.mark.slow
def test_a_run_learns_from_labels_and_teacher(small: Path, tmp_path: Path) -> None:
    output = trained("train.py", small, "--work-dir", tmp_path / "run")
    losses = [float(value) for value in re.findall(r"loss_logits: (\S+)", output)]
    assert len(losses) == 3
    # Cross-entropies of two classes from weights near zero.
    assert losses[0] == pytest.approx(0.693, abs=0.1)
    accuracy = dict(re.findall(r"accuracy/(student|teacher): (\S+)", output))
    assert set(accuracy) == {"student", "teacher"}
    assert all(0 <= float(value) <= 100 for value in accuracy.values())
    assert (tmp_path / "run/student.safetensors").is_file()
