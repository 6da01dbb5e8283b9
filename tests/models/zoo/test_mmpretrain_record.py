"""Models of mmpretrain by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proteus.models import build_backbone
from proteus.models.zoo import find_model, list_models, load_backbone, student_config, teacher_config
from proteus.structures import UserError

pytest.importorskip("mmpretrain")


def test_records() -> None:
    record = find_model("mmpretrain/resnet18_8xb32_in1k")
    assert (record.architecture, record.width, record.patch_size) == ("mmpretrain.ResNet", 512, None)
    assert record.files == ("resnet18_8xb32_in1k_20210831-fbbb1da6.pth",)
    assert record.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-6)
    assert find_model("mmpretrain/MobileNetV2").width == 1280
    with pytest.raises(UserError, match="nearest: mmpretrain/resnet18_8xb32_in1k"):
        find_model("mmpretrain/resnet18_8xb32_in1")
    with pytest.raises(UserError, match=r"mmpretrain/ResNet: ResNet cannot be built.*depth") as refused:
        find_model("mmpretrain/ResNet")
    assert "without depth; name a model of mmpretrain's zoo such as mmpretrain/resnet" in str(refused.value)
    assert "type='mmpretrain.ResNet', depth=...)" in str(refused.value)
    assert "mmpretrain/resnet18_8xb32_in1k" in list_models("mmpretrain/resnet*")


@torch.no_grad()
def test_weights_and_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    config, record = student_config("mmpretrain/deit-tiny_4xb256_in1k", 14, 224)
    assert (config["type"], record.patch_size, record.width) == ("mmpretrain.VisionTransformer", 16, 192)
    backbone = build_backbone(config)
    weights = f"checkpoints/{find_model(record.name).files[0]}"
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in backbone.guest.state_dict().items()}}, weights)
    teacher = load_backbone("mmpretrain/deit-tiny_4xb256_in1k")
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(teacher(images).cls, backbone.eval()(images).cls)
    assert teacher.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-5)
    config, _ = teacher_config("mmpretrain/deit-tiny_4xb256_in1k")
    assert config["init_cfg"] == {"type": "Pretrained", "checkpoint": weights}
