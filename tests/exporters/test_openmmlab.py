from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from proteus.exporters import ExportModel, FormatSkippedError
from proteus.exporters.openmmlab import write_openmmlab
from proteus.models.backbones import TimmBackbone, build_backbone

Models = Callable[[str], ExportModel]


def opened(folder: Path) -> Any:
    pytest.importorskip("mmpretrain.models")
    from mmengine.config import Config
    from mmpretrain.registry import MODELS

    backbone = MODELS.build(Config.fromfile(folder / "backbone.py").backbone)
    backbone.init_weights()
    backbone.eval()
    return backbone


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", "VisionTransformer"),
        ("clip", "VisionTransformer"),
        ("gated", "VisionTransformer"),
        ("registers", "TIMMBackbone"),
        ("cnn", "TIMMBackbone"),
    ],
)
def test_mmpretrain_gives_equal_patches(kind: str, expected: str, models: Models, tmp_path: Path) -> None:
    model = models(kind)
    assert write_openmmlab(model, tmp_path) == f"mmpretrain.{expected}"
    images = model.images(2)
    wanted = model.features(images).patches
    with torch.inference_mode():
        output = opened(tmp_path)(images)[-1]
    found = output.flatten(2).transpose(1, 2) if output.ndim == 4 else output[:, -wanted.shape[1] :]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_another_toolbox_keeps_its_config(tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    backbone = build_backbone({"type": "mmpretrain.MobileNetV2", "widen_factor": 0.25}).eval()
    model = ExportModel(backbone, "guest", 64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    assert write_openmmlab(model, tmp_path) == "mmpretrain.MobileNetV2"
    with torch.inference_mode():
        torch.testing.assert_close(opened(tmp_path)(model.images(1))[-1], model.features(model.images(1)).maps)


@pytest.mark.parametrize("kind", ["wide head", "windows"])
def test_a_model_that_timmbackbone_reads_differently(kind: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(FormatSkippedError, match="TIMMBackbone gives other features"):
        write_openmmlab(models(kind), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_config_takes_the_backbone_from_its_base(models: Models, tmp_path: Path) -> None:
    registry = pytest.importorskip("mmseg.registry")
    pytest.importorskip("mmpretrain.models")
    from mmengine.config import Config

    write_openmmlab(models("plain"), tmp_path / "vit/openmmlab")
    config = tmp_path / "segmentor.py"
    config.write_text(
        '_base_ = ["vit/openmmlab/backbone.py"]\n'
        "model = dict(backbone=dict(frozen_stages=1, **_base_.dense_backbone), pretrained=None)\n"
    )
    backbone = registry.MODELS.build(Config.fromfile(config).model.backbone)
    backbone.init_weights()
    backbone.eval()
    images = models("plain").images(1)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(images)[0], models("plain").features(images).maps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("arch", "size"), [("efficientvim_m1", 64), ("coat_tiny", 64)])
def test_a_model_without_a_last_map_is_skipped(arch: str, size: int, tmp_path: Path) -> None:
    backbone = TimmBackbone(arch, img_size=size, levels=(-1,)).eval()
    model = ExportModel(backbone, "student", size, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(FormatSkippedError, match="TIMMBackbone gives other features"):
        write_openmmlab(model, tmp_path)
