"""Ordinary configs of mmseg's, with none of our parts, in our tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from PIL import Image

from proteus.apis import check, load_config, test
from proteus.apis.infer import infer
from proteus.apis.predictors import build_predictor
from proteus.registry import MODELS
from proteus.structures import DataError, UserError
from proteus.visualization.class_names import meta_of_config, names_and_colours

pytest.importorskip("mmseg")
run_test = test
del test  # pytest would collect it

CONFIG = """
crop_size = (56, 56)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=crop_size),
    pretrained=None,
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type="BN")),
    decode_head=dict(type="FCNHead", in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=19,
                     norm_cfg=dict(type="SyncBN"), loss_decode=dict(type="CrossEntropyLoss")),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="Resize", scale=(112, 56), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
dataset = dict(
    type="CityscapesDataset",
    data_root="{data}",
    data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**dataset, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**dataset, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
default_scope = "mmseg"
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
log_processor = dict(by_epoch=False)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01), clip_grad=None)
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=2, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2),
    logger=dict(type="LoggerHook", log_metric_by_epoch=False),
    visualization=dict(type="SegVisualizationHook"),
)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``plain.py``, ``plain.pth`` and two pictures in Cityscapes' layout."""
    folder = tmp_path_factory.mktemp("plain")
    generator = np.random.default_rng(0)
    for number in range(2):
        image = folder / f"leftImg8bit/val/ulm/ulm_{number}_leftImg8bit.png"
        mask = folder / f"gtFine/val/ulm/ulm_{number}_gtFine_labelTrainIds.png"
        for path, shape, most in ((image, (60, 90, 3), 255), (mask, (60, 90), 19)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, most, shape, dtype=np.uint8)).save(path)
    (folder / "plain.py").write_text(CONFIG.replace("{data}", str(folder)))
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(load_config(folder / "plain.py").model)
    torch.save({"meta": {}, "state_dict": model.state_dict()}, folder / "plain.pth")
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_log_env", lambda *_: None)
    monkeypatch.setattr(Config, "pretty_text", "")


def config(place: Path, **options: Any) -> Config:
    return load_config(place / "plain.py", options)


def test_it_is_checked(place: Path) -> None:
    assert "2 images" in check(config(place))


def test_it_is_tested_and_shown(place: Path, tmp_path: Path) -> None:
    cfg = config(place)
    cfg.work_dir = str(tmp_path)
    run_test(cfg, place / "plain.pth", show_dir=tmp_path / "shown")
    shown = sorted(path.relative_to(tmp_path / "shown") for path in (tmp_path / "shown").rglob("*.png"))
    assert shown == [Path(f"ulm/ulm_{number}_leftImg8bit.png") for number in range(2)]
    assert Image.open(tmp_path / "shown" / shown[0]).width == 3 * 90 + 2 * 8


def test_it_infers_as_it_is_tested(place: Path, tmp_path: Path) -> None:
    picture = place / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png"
    assert infer(config(place), place / "plain.pth", picture, tmp_path, raw=True, device="cpu") == []
    found = np.asarray(Image.open(tmp_path / "raw/ulm_0_leftImg8bit.png"))
    from mmseg.apis import inference_model, init_model

    wanted = inference_model(init_model(str(place / "plain.py"), str(place / "plain.pth"), device="cpu"), str(picture))
    assert np.array_equal(found, wanted.pred_sem_seg.data[0].numpy())


def test_names_and_colours_are_the_data_sets(place: Path) -> None:
    predictor = build_predictor(config(place), place / "plain.pth", "cpu")
    assert predictor.classes is not None
    assert list(predictor.classes[:2]) == ["road", "sidewalk"]
    assert predictor.palette[0] == [128, 64, 128]  # type: ignore[union-attr]
    colour = np.asarray(predictor.frame(Image.new("RGB", (2, 2)), np.zeros((2, 2), np.uint8)))[0, 0]  # type: ignore[union-attr]
    assert colour.tolist() == [77, 38, 77]


def test_classes_of_the_command_line_come_first(place: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {number}" for number in range(19)))
    predictor = build_predictor(config(place), place / "plain.pth", "cpu", names.read_text().split("\n"))
    assert predictor.classes is not None
    assert predictor.classes[0] == "thing 0"
    assert predictor.palette[0] == [128, 64, 128]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="--classes has 2 classes, but the model has 19"):
        build_predictor(config(place), place / "plain.pth", "cpu", ["a", "b"])


def test_data_of_other_classes_are_refused(place: Path) -> None:
    cfg = config(place)
    cfg.test_dataloader.dataset.type = "ADE20KDataset"
    with pytest.raises(UserError, match=r"test_dataloader\.dataset has 150 classes, but the model has 19: .*--classes"):
        build_predictor(cfg, place / "plain.pth", "cpu")
    assert len(build_predictor(cfg, place / "plain.pth", "cpu", ["x"] * 19).palette) == 19  # type: ignore[union-attr]


def test_our_configs_of_ade20k_know_their_names() -> None:
    cfg = load_config("configs/ade20k/vit-ti_linear.py")
    meta = meta_of_config(cfg.test_dataloader.dataset.dataset, cfg.default_scope)
    names, palette = names_and_colours(meta, 150)
    assert (names[2], names[9], names[1]) == ("sky", "grass", "building")
    assert palette[2] == [6, 230, 230]


def test_metainfo_of_ones_own(tmp_path: Path) -> None:
    import mmseg.datasets  # noqa: F401

    subset = {"type": "CityscapesDataset", "metainfo": {"classes": ("car", "road")}}
    assert names_and_colours(meta_of_config(subset, "mmseg"), 2) == (["car", "road"], [[0, 0, 142], [128, 64, 128]])
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    named = {"type": "BaseSegDataset", "metainfo": {"classes": str(tmp_path / "names.txt")}}
    names, palette = names_and_colours(meta_of_config(named, "mmseg"), 2)
    assert names == ["one", "two"]
    assert len(palette) == 2
    assert names_and_colours({}, 3)[0] == ["0", "1", "2"]
    with pytest.raises(DataError, match="has 2 classes and 1 colours"):
        names_and_colours({"classes": ["a", "b"], "palette": [[0, 0, 0]]}, 2)


@pytest.mark.parametrize(
    "test_cfg",
    [{"mode": "whole"}, {"mode": "slide", "crop_size": (28, 28), "stride": (20, 20)}],
    ids=["whole", "slide"],
)
@pytest.mark.parametrize("tta", [False, True], ids=["plain", "tta"])
def test_our_vit_takes_images_off_its_grid(test_cfg: dict[str, Any], tta: bool) -> None:
    """Of 33x45 px, which patches of 14 px do not divide, and 20x45, smaller than a window."""
    from mmengine.registry import DefaultScope
    from mmseg.structures import SegDataSample

    backbone = {"type": "proteus.DenseViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 2, "num_heads": 2}
    head = {"type": "FCNHead", "in_channels": 24, "channels": 8, "num_convs": 1, "num_classes": 3, "in_index": -1}
    config: dict[str, Any] = {
        "type": "EncoderDecoder",
        "data_preprocessor": {"type": "SegDataPreProcessor"},
        "backbone": {**backbone, "out_indices": (0, 1)},
        "decode_head": head,
        "test_cfg": test_cfg,
    }
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(ConfigDict({"type": "SegTTAModel", "module": config} if tta else config)).eval()
        for height, width in ((33, 45), (20, 45)):
            sample = SegDataSample(
                metainfo={"ori_shape": (height, width), "img_shape": (height, width), "flip": False, "img_path": "a"}
            )
            image = torch.zeros(3, height, width, dtype=torch.uint8)
            batch = {"inputs": [[image]] * 2 if tta else [image], "data_samples": [[sample]] * 2 if tta else [sample]}
            with torch.inference_mode():
                (found,) = model.test_step(batch)
            assert found.pred_sem_seg.data.shape[-2:] == (height, width)
