from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from proteus.checkpoints import read_description, read_state_dict
from proteus.exporters import ExportError, ExportModel, FormatSkippedError
from proteus.exporters.card_code import code_blocks
from proteus.exporters.timm_files import cls_kind, write_timm
from proteus.models import ViT
from proteus.models.backbones import build_backbone

Models = Callable[[str], ExportModel]


@pytest.mark.parametrize("kind", ["registers", "gated", "cnn", "wide head", "windows"])
def test_timm_gives_equal_features(kind: str, models: Models, tmp_path: Path) -> None:
    assert write_timm(models(kind), tmp_path) < 1e-5
    assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize(
    ("kind", "expected"), [("layer scale", "pooled"), ("cnn", "pooled"), ("wide head", "mean"), ("windows", "pooled")]
)
def test_how_the_cls_is_read(kind: str, expected: str, models: Models) -> None:
    assert cls_kind(models(kind)) == expected


def test_the_folder_can_be_fine_tuned(models: Models, tmp_path: Path) -> None:
    write_timm(models("layer scale"), tmp_path)
    classifier = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).eval()
    images = models("layer scale").images(1)
    with torch.inference_mode():
        tokens = classifier.forward_features(images)
    assert classifier(images).shape == (1, 7)
    torch.testing.assert_close(tokens[:, 0], models("layer scale").features(images).cls)


def test_timm_reads_how_to_prepare_images(models: Models, tmp_path: Path) -> None:
    model = models("layer scale")
    write_timm(model, tmp_path)
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path}", pretrained=True))
    assert data["input_size"] == (3, 56, 56)
    assert tuple(data["mean"]) == model.mean
    assert tuple(data["std"]) == model.std
    assert data["crop_pct"] == 0.875
    assert data["interpolation"] == "bicubic"


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_the_card_and_timm_fit_an_image_alike(mode: str, models: Models, tmp_path: Path) -> None:
    model = replace(models("layer scale"), crop_mode=mode)
    write_timm(model, tmp_path)
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path}"))
    assert data["crop_mode"] == mode
    image = Image.effect_noise((120, 80), 50).convert("RGB").resize((240, 160))
    image.save(tmp_path / "photo.png")
    code = next(code for heading, code in code_blocks(model, {}) if heading == "Prepare images")
    names: dict[str, Any] = {}
    exec(code.replace("photo.jpg", str(tmp_path / "photo.png")), names)
    wanted = timm.data.create_transform(**data, is_training=False)(image)
    torch.testing.assert_close(names["images"][0], wanted, atol=1e-5, rtol=0)


def test_the_header_describes_the_model(models: Models, tmp_path: Path) -> None:
    model = models("layer scale")
    write_timm(model, tmp_path)
    description = read_description(tmp_path / "model.safetensors")
    assert description is not None
    assert description.architecture == "vit_tiny_patch16_224"
    assert description.mean == model.mean
    assert description.teacher == "a teacher"


def test_weights_of_another_toolbox(tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    backbone = build_backbone({"type": "mmpretrain.MobileNetV2", "widen_factor": 0.25}).eval()
    model = ExportModel(backbone, "guest", 64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(FormatSkippedError, match=r"mmpretrain.MobileNetV2 is not a model of timm's"):
        write_timm(model, tmp_path)
    assert set(read_state_dict(tmp_path / "model.safetensors")) == set(backbone.guest.state_dict())
    assert not (tmp_path / "config.json").exists()


def test_a_file_that_gives_other_features(models: Models, tmp_path: Path) -> None:
    class Scaled(ViT):
        def forward(self, images: torch.Tensor, masks: torch.Tensor | None = None) -> object:
            features = super().forward(images, masks)
            return type(features)(features.cls, 1.1 * features.patches, features.grid)

    model = models("layer scale")
    other = Scaled("tiny", img_size=56, embed_dim=48, depth=2, num_heads=3).eval().requires_grad_(False)
    other.vit.load_state_dict(model.state())
    with pytest.raises(ExportError, match=r"config.json differs from torch by"):
        write_timm(model.with_backbone(other), tmp_path)


def test_the_licence_has_the_name_of_the_hub(models: Models, tmp_path: Path) -> None:
    write_timm(replace(models("layer scale"), licence="CC-BY-NC 4.0"), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
