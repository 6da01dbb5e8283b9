"""The linear probe from the command line: trained, resumed, tested, on one rank and on two, and with bad data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, log_lines, options, tool, trained, weights, write_teacher

from proteus.apis import load_config, train
from proteus.utils.user_errors import mistake

pytestmark = pytest.mark.slow

SIZES = {"embed_dim": 32, "depth": 4, "num_heads": 2}
CONFIG = """
_base_ = "{root}/configs/linear_probe/vit-ti.py"

model = dict(
    backbone=dict(img_size=28, embed_dim=32, depth=4, num_heads=2, checkpoint="{place}/backbone.safetensors"),
    num_classes=3,
)
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 28
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 32, 28
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="{place}/train", num_classes=3, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root="{place}/val", num_classes=3, pipeline=val_pipeline),
)
test_dataloader = val_dataloader
# As if batches were 256 times as large, or the heads would hardly move.
auto_scale_lr = dict(base_batch_size=1)
train_cfg = dict(max_iters=10, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
"""
FEATURES = """
_base_ = "./small.py"

train_dataloader = dict(
    collate_fn=dict(_delete_=True, type="table_collate"),
    dataset=dict(
        _delete_=True,
        type="FeatureTable",
        features="{place}/features.npy",
        labels="{place}/labels.npy",
        num_classes=3,
        width=32,
    ),
)
val_dataloader = train_dataloader
val_dataloader = dict(
    collate_fn=dict(_delete_=True, type="table_collate"),
    dataset=dict(_delete_=True, type="FeatureTable", features="{place}/features.npy", labels="{place}/labels.npy"),
)
test_dataloader = val_dataloader
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``train`` and ``val``, ``backbone.safetensors``, ``small.py`` and ``features.py``."""
    folder = tmp_path_factory.mktemp("probe")
    write_classes(folder / "train", 10)
    write_classes(folder / "val", 7)
    write_teacher(folder / "backbone.safetensors", img_size=28, **SIZES)
    (folder / "small.py").write_text(CONFIG.format(root=ROOT, place=folder))
    (folder / "features.py").write_text(FEATURES.format(place=folder))
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    centres = 3 * generator.standard_normal((3, 5, 32))
    np.save(folder / "features.npy", (centres[labels] + generator.standard_normal((60, 5, 32))).astype(np.float16))
    np.save(folder / "labels.npy", labels)
    return folder


def write_classes(folder: Path, count: int) -> None:
    """Three classes of noise in different colours, which a random ViT roughly separates."""
    generator = np.random.default_rng(count)
    for name, tint in (("n01", (90, 0, 0)), ("n02", (0, 90, 0)), ("n03", (60, 60, 60))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 165, (6, 8, 3)) + np.array(tint)
            image = Image.fromarray(pixels.astype(np.uint8)).resize((48, 36), Image.Resampling.BICUBIC)
            image.save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def run(place: Path) -> tuple[Path, str]:
    """Work directory and output of a run that was left alone."""
    output = trained("train.py", place / "small.py", "--work-dir", place / "run")
    return place / "run", output


def test_the_checkpoint_is_the_classifier_that_the_grid_says(
    run: tuple[Path, str], place: Path, tmp_path: Path
) -> None:
    work_dir, output = run
    grid = json.loads((work_dir / "probe_grid.json").read_text())
    accuracies = [head["accuracy"] for head in grid["heads"]]
    assert (len(accuracies), grid["iteration"]) == (52, 10)
    assert grid["best"] == max(accuracies) > 60 > min(accuracies)
    assert grid["best_head"] == grid["heads"][accuracies.index(max(accuracies))]["name"]
    assert int(weights(work_dir / "iter_10.pth")["best_head"]) == accuracies.index(max(accuracies))
    assert f"**{grid['best']:.2f}**" in (work_dir / "probe_grid.md").read_text()
    assert (work_dir / "probe_grid.png").stat().st_size > 10_000
    assert "Scaling the original LR by 8.0" in output
    assert len(log_lines(output)) == 10
    assert "cross_entropy_mean" in log_lines(output)[-1]
    # A checkpoint at each of the iterations, with the choice of the validation at that iteration in it.
    assert {path.name for path in work_dir.glob("*.pth")} == {"iter_4.pth", "iter_8.pth", "iter_10.pth"}
    assert all(int(weights(path)["best_head"]) >= 0 for path in work_dir.glob("*.pth"))

    # What training started from need not be there any more.
    tested = trained(
        *("test.py", place / "small.py", work_dir / "iter_10.pth", "--work-dir", tmp_path),
        *options({"model.backbone.checkpoint": tmp_path / "gone.safetensors"}),
    )
    figures = {name: float(value) for name, value in re.findall(r"(probe/best|accuracy/top1): ([\d.]+)", tested)}
    assert figures["probe/best"] == figures["accuracy/top1"] == pytest.approx(grid["best"], abs=1e-4)
    table = (work_dir / "probe_grid.md").read_text().split("\n\n")[1].strip()
    assert table in tested
    assert grid["best_head"] in tested


def test_resumed_is_unbroken(run: tuple[Path, str], place: Path, tmp_path: Path) -> None:
    trained("train.py", place / "small.py", "--work-dir", tmp_path, "--resume", run[0] / "iter_4.pth")
    ours, theirs = (torch.load(folder / "iter_10.pth", weights_only=False) for folder in (tmp_path, run[0]))
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for key, state in theirs["optimizer"]["state"].items():
        assert torch.equal(ours["optimizer"]["state"][key]["momentum_buffer"], state["momentum_buffer"])
    assert ours["optimizer"]["param_groups"] == theirs["optimizer"]["param_groups"]
    assert ours["meta"]["iter"] == theirs["meta"]["iter"] == 10
    assert (tmp_path / "probe_grid.json").read_text() == (run[0] / "probe_grid.json").read_text()


def test_two_ranks_are_one(run: tuple[Path, str], place: Path, tmp_path: Path) -> None:
    values = options({"train_dataloader.batch_size": 4, "val_dataloader.batch_size": 4})
    output = trained("train.py", place / "small.py", "--work-dir", tmp_path, *values, ranks=2)
    assert "Scaling the original LR by 8.0" in output
    together, alone = weights(tmp_path / "iter_10.pth"), weights(run[0] / "iter_10.pth")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-4, msg=lambda text, name=name: name + text)
    # 21 images: rank 1 sees one of them twice, which must not count.
    assert (tmp_path / "probe_grid.json").read_text() == (run[0] / "probe_grid.json").read_text()


def test_features_that_were_extracted_before(place: Path, tmp_path: Path) -> None:
    output = trained("train.py", place / "features.py", "--work-dir", tmp_path)
    assert len(log_lines(output)) == 10
    assert json.loads((tmp_path / "probe_grid.json").read_text())["best"] > 95
    assert "images_per_s" in log_lines(output)[-1]


CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "label out of range": (
        "small.py",
        {"model.num_classes": 2},
        ("n03", "has label 2", "model.num_classes=2"),
    ),
    "one class too few": (
        "small.py",
        {"train_dataloader.dataset.data_root": "{tmp}/empty", "train_dataloader.dataset.num_classes": None},
        ("data_root", "{tmp}/empty/n02 has no images"),
    ),
    "no backbone": (
        "small.py",
        {"model.backbone.checkpoint": "{tmp}/backbone.pth"},
        ("model.backbone.checkpoint", "{tmp}/backbone.pth", "--cfg-options"),
    ),
    "backbone of another width": (
        "small.py",
        {"model.backbone.checkpoint": "{tmp}/wide.safetensors"},
        ("model.backbone.checkpoint", "wide.safetensors", "width 64", "width 32"),
    ),
    "crop of another size": (
        "small.py",
        {"train_dataloader.dataset.pipeline.1.scale": 42},
        ("pipeline[1].scale = 42", "model.backbone.img_size is 28"),
    ),
    "blocks that are not there": ("small.py", {"model.layers": (1, 5)}, ("model.layers=(1, 5)", "4 blocks")),
    "no features": (
        "features.py",
        {"train_dataloader.dataset.features": "{tmp}/gone.npy"},
        ("train_dataloader.dataset.features", "{tmp}/gone.npy"),
    ),
    "NaN features": (
        "features.py",
        {"train_dataloader.dataset.features": "{tmp}/nan.npy", "train_dataloader.sampler.shuffle": False},
        ("row 7 of {tmp}/nan.npy", "NaN or infinite values"),
    ),
    "features of another backbone": (
        "features.py",
        {"train_dataloader.dataset.features": "{tmp}/narrow.npy", "train_dataloader.dataset.width": None},
        ("(5, 16) tokens x width", "(5, 32)"),
    ),
    "feature labels out of range": (
        "features.py",
        {"train_dataloader.dataset.num_classes": 2},
        ("labels.npy is 2", "dataset.num_classes"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_a_sentence(case: str, place: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "empty", 2)
    for image in (tmp_path / "empty/n02").iterdir():
        image.unlink()
    write_teacher(tmp_path / "wide.safetensors", img_size=28, **{**SIZES, "embed_dim": 64})
    table = np.load(place / "features.npy")
    np.save(tmp_path / "narrow.npy", table[..., :16])
    table[7, 2, 3] = np.nan
    np.save(tmp_path / "nan.npy", table)
    config, values, words = CASES[case]
    filled = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in values.items()}
    cfg = load_config(place / config, filled)
    cfg.work_dir, cfg.experiment_name, cfg.visualizer = str(tmp_path / "run"), tmp_path.name, None
    with pytest.raises((ValueError, OSError)) as refusal:
        train(cfg)
    line = mistake(refusal.value)  # what the tools print
    assert line is not None
    for word in words:
        assert word.format(tmp=tmp_path) in line


def test_a_corrupt_image_in_validation(place: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "corrupt", 5)
    (tmp_path / "corrupt/n02/3.png").write_bytes(b"no image")
    values = options({"val_dataloader.dataset.data_root": tmp_path / "corrupt"})
    done = tool("train.py", place / "small.py", "--work-dir", tmp_path / "run", *values)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{tmp_path}/corrupt/n02/3.png" in done.stderr
    assert "restore it" in done.stderr


def test_a_checkpoint_of_another_width(run: tuple[Path, str], place: Path, tmp_path: Path) -> None:
    wider = options({"model.backbone.embed_dim": 64})
    done = tool("test.py", place / "small.py", run[0] / "iter_10.pth", "--work-dir", tmp_path, *wider)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "iter_10.pth does not fit" in done.stderr
