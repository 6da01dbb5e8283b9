from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from proteus.exporters import ExportModel, FormatSkippedError
from proteus.exporters.hugging_face import native_class, write_hugging_face
from proteus.models.backbones import build_backbone
from proteus.models.zoo.model_folder import read_input_facts

Models = Callable[[str], ExportModel]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("layer scale", "Dinov2Model"),
        ("registers", "Dinov2WithRegistersModel"),
        ("gated", "Dinov2Model"),
        ("plain", "ViTModel"),
        ("clip", "CLIPVisionModel"),
        ("clip with layer scale", "TimmWrapperModel"),
        ("cnn", "TimmWrapperModel"),
    ],
)
def test_automodel_gives_equal_features(kind: str, expected: str, models: Models, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = models(kind)
    assert write_hugging_face(model, tmp_path) == expected
    assert native_class(model) == (None if expected == "TimmWrapperModel" else expected)
    opened, loading = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(opened).__name__ == expected
    assert not any(loading.values())
    images = model.images(2)
    with torch.inference_mode():
        output = opened.eval()(pixel_values=images)
        last = output.last_hidden_state
        last = opened.post_layernorm(last) if kind == "clip" else last
    wanted = model.features(images)
    patches = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last[:, -wanted.patches.shape[1] :]
    torch.testing.assert_close(output.pooler_output.flatten(1), wanted.cls, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(patches, wanted.patches, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["layer scale", "clip", "cnn"])
def test_autoimageprocessor_normalises(kind: str, models: Models, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = models(kind)
    write_hugging_face(model, tmp_path)
    side = model.resize  # not resized, only cropped
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    (found,) = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    low = round((side - model.img_size) / 2)
    crop = pixels[low : low + model.img_size, low : low + model.img_size]
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    wanted = ((torch.from_numpy(crop) / 255 - mean) / std).permute(2, 0, 1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["layer scale", "clip"])
def test_autoimageprocessor_squashes(kind: str, models: Models, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = replace(models(kind), crop_mode="squash")
    write_hugging_face(model, tmp_path)
    assert read_input_facts(tmp_path) == ("bicubic", 0.875, "squash")
    pixels = np.zeros((10, 60, 3), np.uint8)
    pixels[:, 30:] = 255  # a centre crop of the short side would show its middle third alone
    pixels[:, 45:] = 0
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    (found,) = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    assert found.shape == (3, model.img_size, model.img_size)
    columns = (found.mean(dim=1) > 0).float().mean(dim=1)
    torch.testing.assert_close(columns, torch.full((3,), 0.25 / 0.875), atol=0.05, rtol=0)


def test_borders_are_left_to_timm(models: Models, tmp_path: Path) -> None:
    model = replace(models("layer scale"), crop_mode="border")
    assert write_hugging_face(model, tmp_path) == "TimmWrapperModel"
    assert read_input_facts(tmp_path).crop_mode == "border"


def test_another_toolbox_is_skipped(tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    backbone = build_backbone({"type": "mmpretrain.MobileNetV2", "widen_factor": 0.25}).eval()
    model = ExportModel(backbone, "guest", 64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pytest.raises(FormatSkippedError, match=r"transformers has no class for mmpretrain.MobileNetV2"):
        write_hugging_face(model, tmp_path)
