"""ADE20K through mmseg's segmentor, in real processes on tiny scenes in the official layout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, log_lines, options, tool, trained, weights, write_teacher
from safetensors.torch import load_file
from segmentation_runs import write_scenes, write_segmentation_config

from proteus.apis import ConfigError, load_config, train
from proteus.structures import DataError

pytestmark = pytest.mark.slow

KINDS = ("linear", "upernet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``backbone.safetensors``, ``linear.py`` and ``upernet.py``."""
    pytest.importorskip("mmseg")
    folder = tmp_path_factory.mktemp("segmentation")
    write_scenes(folder / "data")
    backbone = write_teacher(folder / "backbone.safetensors", embed_dim=24, num_heads=2, depth=4, init_values=1.0)
    for kind in KINDS:
        write_segmentation_config(folder / f"{kind}.py", f"vit-ti_{kind}", folder / "data", backbone)
    return folder


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, tuple[Path, str]]:
    """Work directory and output of a run of each kind that was left alone."""
    return {
        kind: (place / kind, trained("train.py", place / f"{kind}.py", "--work-dir", place / kind)) for kind in KINDS
    }


def figures(output: str, phase: str) -> list[str]:
    return re.findall(rf"Iter\({phase}\).*(aAcc: [\d.]+ +mIoU: [\d.]+ +mAcc: [\d.]+)", output)


def test_linear_trains_the_head_alone(place: Path, runs: dict[str, tuple[Path, str]]) -> None:
    folder, output = runs["linear"]
    assert len(log_lines(output)) == 6
    state, start = weights(folder / "iter_6.pth"), load_file(place / "backbone.safetensors")
    assert {f"backbone.vit.{name}" for name in start} == {name for name in state if name.startswith("backbone.")}
    assert all(torch.equal(state[f"backbone.vit.{name}"], value) for name, value in start.items())
    head = "decode_head.conv_seg.weight"
    assert not torch.equal(state[head], weights(folder / "iter_3.pth")[head])


def test_upernet_trains_the_backbone_by_layers(place: Path, runs: dict[str, tuple[Path, str]]) -> None:
    folder, output = runs["upernet"]
    assert "layer-wise learning-rate decay, 0.65 per layer (without 2 frozen tensors)" in output
    for layer in range(5):  # embeddings and four blocks, decayed and not
        scale = 0.65 ** (5 - layer)
        for decay in ("0", "0.05"):
            assert re.search(rf"backbone {layer} +{scale:.3g} +{1e-4 * scale:.3e} +{re.escape(decay)} ", output)
    assert "other                            1   1.000e-04" in output
    state, start = weights(folder / "iter_6.pth"), load_file(place / "backbone.safetensors")
    moved = {name for name, value in start.items() if not torch.equal(state[f"backbone.vit.{name}"], value)}
    assert moved == set(start) - {"norm.weight", "norm.bias"}  # the final norm is not in the graph


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_the_unbroken_one(
    place: Path, runs: dict[str, tuple[Path, str]], tmp_path: Path, kind: str
) -> None:
    folder, output = runs[kind]
    resumed = trained("train.py", place / f"{kind}.py", "--work-dir", tmp_path, "--resume", folder / "iter_3.pth")
    assert len(log_lines(resumed)) == 3
    assert figures(resumed, "val") == figures(output, "val")
    found, wanted = weights(tmp_path / "iter_6.pth"), weights(folder / "iter_6.pth")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_a_test_shows_what_it_found_and_needs_no_backbone_file(
    place: Path, runs: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    folder, output = runs["linear"]
    gone = options({"model.backbone.checkpoint": tmp_path / "gone.safetensors"})
    shown = tmp_path / "shown"
    arguments = (place / "linear.py", folder / "iter_6.pth", "--work-dir", tmp_path, "--show-dir", shown, *gone)
    tested = trained("test.py", *arguments)
    assert figures(tested, "test") == figures(output, "val")
    assert re.search(r"\| +Class +\| +IoU +\| +Acc +\|", tested)
    assert re.search(r"\| +sky +\| +[\d.]+ +\|", tested)  # class 3 of the files, 2 counted from 0
    assert {path.name for path in shown.rglob("*.png")} == {f"scene_{number:03}.png" for number in range(3)}
    sheet = np.asarray(Image.open(shown / "scene_001.png"))
    truth = sheet[18 : 18 + 64, 2 * 88 :]
    # Background: sky's (6, 230, 230) at 0.6 over grey of about 110.
    assert np.abs(np.median(truth.reshape(-1, 3), axis=0) - (47, 182, 182)).max() < 6


def test_views_are_averaged(place: Path, runs: dict[str, tuple[Path, str]], tmp_path: Path) -> None:
    folder, output = runs["linear"]
    arguments = (place / "linear.py", folder / "iter_6.pth", "--work-dir", tmp_path)
    averaged = figures(trained("test.py", *arguments, "--tta", "--show-dir", tmp_path / "shown"), "test")
    assert averaged
    assert averaged != figures(output, "val")
    assert len(list((tmp_path / "shown").rglob("*.png"))) == 3


def test_a_window_over_the_whole_image_equals_a_whole_pass(
    place: Path, runs: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    """At 112 px the long side has up to 140 px."""
    windows = {"slide": {"crop_size": "(140,140)", "stride": "(70,70)"}, "whole": {}}
    found = {}
    for mode, more in windows.items():
        change = {"model.test_cfg.mode": mode, "model.data_preprocessor.test_cfg.size": "(140,140)"}
        change |= {f"model.test_cfg.{key}": value for key, value in more.items()}
        if mode == "whole":
            change["model.test_cfg.crop_size"] = "(140,140)"
        change["test_dataloader.dataset.dataset.pipeline.1.scale"] = "(448,112)"
        arguments = (place / "upernet.py", runs["upernet"][0] / "iter_6.pth", "--work-dir", tmp_path, *options(change))
        found[mode] = trained("test.py", *arguments, "--show-dir", tmp_path / mode)
    assert figures(found["slide"], "test") == figures(found["whole"], "test")
    pictures = list((tmp_path / "slide").glob("*.png"))
    assert len(pictures) == 3
    for path in pictures:
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_two_processes_without_gpus(place: Path, tmp_path: Path) -> None:
    change = options({"train_cfg.max_iters": 2, "train_cfg.val_interval": 2, "train_dataloader.batch_size": 2})
    output = trained("train.py", place / "upernet.py", "--work-dir", tmp_path, *change, ranks=2)
    assert figures(output, "val")
    assert (tmp_path / "iter_2.pth").is_file()


def test_a_model_of_timms_takes_the_vits_place(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet.py"
    path.write_text(
        f'_base_ = "{place / "linear.py"}"\n'
        'model = dict(backbone=dict(_delete_=True, type="proteus.DenseTimm", arch="test_resnet", frozen=True),\n'
        "             decode_head=dict(in_channels=[32, 48, 192, 96], channels=368))\n"
        "default_hooks = dict(checkpoint=dict(interval=1))\n"
    )
    assert figures(trained("train.py", path, "--work-dir", tmp_path, *options({"train_cfg.max_iters": 4})), "val")
    first, last = (weights(tmp_path / f"iter_{number}.pth") for number in (3, 4))
    names = [name for name in first if name.startswith("backbone.")]
    assert any("running_var" in name for name in names)
    assert all(torch.equal(first[name], last[name]) for name in names)


@pytest.mark.parametrize("variant", ["vit-s_upernet_released", "vit-s_linear-dinov2"])
def test_named_variants_train(place: Path, tmp_path: Path, variant: str) -> None:
    path = write_segmentation_config(tmp_path / "small.py", variant, place / "data", place / "backbone.safetensors")
    if "dinov2" in variant:
        text = path.read_text().replace("out_indices=(0, 1, 2, 3)", "out_indices=(3,)")
        path.write_text(text.replace("in_channels=[24] * 4, channels=96", "in_channels=[24]"))
    output = trained("train.py", path, "--work-dir", tmp_path)
    assert figures(output, "val")
    state, start = weights(tmp_path / "iter_6.pth"), load_file(place / "backbone.safetensors")
    extra = [name for name in state if name.startswith("backbone.vit.") and name[13:] not in start]
    if "released" in variant:
        assert extra == [f"backbone.vit.blocks.{block}.attn.relative_position_bias_table" for block in range(4)]
        assert all(state[name].any() for name in extra)
    else:
        assert not extra
        assert state["decode_head.bn.num_batches_tracked"] == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.backbone.checkpoint": "gone.safetensors"}, "model.backbone.checkpoint .* does not exist"),
        (
            {"train_dataloader.dataset.dataset.data_root": "gone"},
            r"train_dataloader\.dataset\.dataset\.data_root = 'gone' does not exist",
        ),
        (
            {"train_dataloader.dataset.dataset.data_prefix.img_path": "pictures"},
            r"no folder .*data/pictures; (.|\n)*annotations/training/\*\.png",
        ),
        (
            {"model.decode_head.num_classes": 20},
            r"write model\.decode_head\.num_classes=150; or, for masks of 20 classes of yours, write train_dataloader"
            r"\.dataset\.dataset\.type='BaseSegDataset'.*dataset\.metainfo\.classes.*dataset\.reduce_zero_label=True",
        ),
        (
            {"val_dataloader.dataset.dataset.data_prefix.seg_map_path": "masks"},
            r"no folder .*data/masks; (.|\n)*images/validation/\*\.jpg",
        ),
        (
            {"val_dataloader.dataset.dataset.metainfo": {"classes": ("wall", "sky")}},
            r"model\.decode_head\.num_classes = 150, but val_dataloader\.dataset has 2 classes",
        ),
        ({"model.auxiliary_head.in_channels": 48}, r"write model\.auxiliary_head\.in_channels=24"),
        ({"model.test_cfg.crop_size": (64, 64)}, "write 56 or 70"),
        ({"model.backbone.frozn": True}, "did you mean 'frozen'"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    place: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        train(load_config(place / "upernet.py", {"work_dir": str(tmp_path), **change}))
    assert not list(tmp_path.rglob("*.pth"))


def test_a_mask_that_is_wrong_stops_the_run_by_name(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    mask = tmp_path / "data/annotations/training/scene_005.png"
    Image.fromarray(np.full((64, 80), 151, np.uint8)).save(mask)
    data = {"train_dataloader.dataset.dataset.data_root": tmp_path / "data"}
    at_start = tool("train.py", place / "linear.py", "--work-dir", tmp_path / "run", *options(data))
    data["train_dataloader.dataset.read_masks"] = 1
    later = tool("train.py", place / "linear.py", "--work-dir", tmp_path / "run", *options(data))
    assert not log_lines(at_start.stdout + at_start.stderr)
    for done in (at_start, later):
        assert done.returncode == 2, done.stderr[-2000:]
        assert re.search(r"^error: \S*scene_005\.png: label 151 in a mask of 150 classes", done.stderr, re.MULTILINE)


def test_without_mmseg_one_line_says_what_to_install(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mmseg").mkdir()
    (tmp_path / "mmseg/__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'mmseg'\")")
    for config in (place / "upernet.py", ROOT / "configs/ade20k/vit-s_linear-dinov2.py"):
        done = tool("train.py", config, "--work-dir", tmp_path / "run", path=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        (line,) = {line.strip() for line in done.stderr.splitlines() if "pip install" in line}
        assert "pip install --no-deps onedl-mmcv onedl-mmsegmentation" in line
        assert "pip install ftfy regex prettytable" in line
