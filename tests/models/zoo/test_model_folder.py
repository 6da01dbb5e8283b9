"""Model folders in timm's layout, from untrusted sources, and repositories in the hub's cache."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from proteus.checkpoints import CheckpointError, export_backbone
from proteus.models import ViT
from proteus.models.zoo import load_backbone
from proteus.models.zoo.model_folder import read_input_facts
from proteus.structures import Features

VIT = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}
STATISTICS = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


def write_folder(folder: Path, arch: str, classes: int = 0, **arguments: Any) -> Path:
    """Write a model with timm's own function."""
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=classes, **arguments)
    config = {"pretrained_cfg": {**STATISTICS, "license": "apache-2.0"}}
    save_for_hf(model, folder, model_config=config, safe_serialization=True, data_config=STATISTICS)
    return folder


@torch.no_grad()
@pytest.mark.parametrize(
    ("arch", "classes", "arguments"),
    [
        ("vit_tiny_patch16_224", 0, VIT),
        ("vit_tiny_patch16_224", 10, VIT),
        ("vit_small_patch14_reg4_dinov2", 0, {**VIT, "img_size": 56}),
        ("vit_tiny_patch16_224", 0, {**VIT, "global_pool": "avg"}),
        ("test_resnet", 10, {}),
        ("test_convnext", 0, {}),
        ("vit_base_patch16_siglip_224", 0, VIT),
    ],
    ids=["vit", "classifier", "registers", "mean pooling", "resnet", "convnext", "siglip"],
)
def test_folder_equals_timm(arch: str, classes: int, arguments: dict[str, Any], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", arch, classes, **arguments)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    ours = load_backbone(folder)
    images = torch.randn(2, 3, ours.img_size, ours.img_size)
    features, expected = ours(images), theirs.forward_features(images)
    assert isinstance(features, Features)
    if expected.ndim == 4:
        expected = expected.flatten(2).transpose(1, 2)
    patches = expected[:, getattr(theirs, "num_prefix_tokens", 0) :]
    torch.testing.assert_close(features.patches, patches, atol=1e-5, rtol=1e-5)
    assert (ours.mean, ours.std) == (STATISTICS["mean"], STATISTICS["std"])
    assert ours.licence == "Apache-2.0"
    assert ours.img_size == arguments.get("img_size", theirs.pretrained_cfg["input_size"][-1])


@pytest.mark.parametrize(("pool", "kind"), [("token", "ViT"), ("avg", "TimmBackbone")])
def test_a_vit_with_the_defaults_that_timm_writes_is_ours(pool: str, kind: str, tmp_path: Path) -> None:
    """Else it has no mask token, and cannot be sliced."""
    folder = write_folder(tmp_path / "model", "vit_base_patch16_clip_224", **VIT, global_pool=pool)
    write_config(folder, model_args={**VIT, "in_chans": 3, "global_pool": pool})
    assert type(load_backbone(folder)).__name__ == kind


def write_config(folder: Path, **changes: Any) -> Path:
    """Change fields of ``config.json``; ``None`` removes one."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder"), "vit_tiny_patch16_224", **VIT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"architecture": "subprocess.getoutput"},
            "architecture is 'subprocess.getoutput'; expected a model of timm's",
        ),
        ({"model_args": {"pretrained_cfg": {"file": "x"}}}, "'pretrained_cfg', which a weight file may not set"),
        ({"model_args": {"img_size": 64, "depth": 10**9}}, "depth is 1000000000; expected"),
        ({"model_args": [1]}, r"arguments is \[1\]; expected an object"),
        ({"pretrained_cfg": 1}, "pretrained_cfg is not an object"),
        ({"pretrained_cfg": {"mean": [0.5] * 3, "std": [0, 1, 1], "input_size": [3, 64, 64]}}, "std is .* above 0"),
        ({"pretrained_cfg": {"mean": [0.5] * 3, "std": [1] * 3, "input_size": "big"}, "model_args": {}}, "input_size"),
        ({"architecture": "test_resnet", "model_args": {}}, "does not fit the model it is meant for"),
        (
            {"architecture": "vit_giant_patch14_dinov2", "model_args": {"img_size": 56}},
            "describes a model of more than",
        ),
    ],
)
def test_untrusted_description(changes: dict[str, Any], words: str, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=words):
        load_backbone(write_config(folder, **changes))


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_unreadable_description(text: str, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json is (not JSON|a JSON list)"):
        load_backbone(tmp_path)


def test_folder_without_a_model(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a folder without a model: it has no model.safetensors$"):
        load_backbone(tmp_path)
    (tmp_path / "student.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"name a weight file in it, such as .*student.safetensors"):
        load_backbone(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"it has no config.json"):
        load_backbone(tmp_path)


@torch.no_grad()
def test_layout_of_transformers(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    sizes = {"hidden_size": 192, "num_hidden_layers": 1, "num_attention_heads": 3, "image_size": 56, "patch_size": 14}
    theirs = Dinov2Model(Dinov2Config(**sizes)).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    ours = load_backbone(tmp_path)
    images = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(ours(images).cls, theirs(images).last_hidden_state[:, 0], atol=1e-5, rtol=1e-5)
    assert (ours.mean, ours.std, ours.img_size) == ((0.5,) * 3, (0.25,) * 3, 56)


@pytest.mark.parametrize(
    ("preprocessor", "facts"),
    [
        ({}, ("bicubic", 0.875, "center")),
        ({"resample": 2, "size": {"height": 224, "width": 224}}, ("bilinear", 1.0, "squash")),
        ({"size": {"height": 256, "width": 256}, "crop_size": 224}, ("bicubic", 0.875, "squash")),
        ({"resample": 3, "size": {"shortest_edge": 224}, "crop_size": {"height": 224}}, ("bicubic", 1.0, "center")),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False}, ("bicubic", 1.0, "center")),
        ({"size": "big", "resample": -1}, ("bicubic", 0.875, "center")),
    ],
)
def test_how_transformers_prepares_images(
    preprocessor: dict[str, Any], facts: tuple[str, float, str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    assert read_input_facts(tmp_path) == facts


def test_the_crop_of_transformers_gives_its_size_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for edge in range(224, 300):
        content = {"size": {"shortest_edge": edge}, "crop_size": 224}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        assert math.floor(224 / read_input_facts(tmp_path)[1]) == edge


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interpolation": "bicubic\nimport os"}, r"interpolation is 'bicubic.*'; expected one of nearest, lanczos"),
        ({"crop_pct": "0.9"}, "crop_pct is '0.9'; expected a number above 0"),
        ({"crop_pct": 0}, "crop_pct is 0; expected"),
        ({"crop_pct": float("nan")}, "crop_pct is nan; expected"),
        ({"crop_mode": "stretch"}, "crop_mode is 'stretch'; expected one of center, squash, border"),
    ],
)
def test_untrusted_input_facts(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    content = {"architecture": "test_vit", "pretrained_cfg": {"interpolation": "bilinear", "crop_pct": 0.9}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert read_input_facts(tmp_path) == ("bilinear", 0.9, "center")
    with pytest.raises(CheckpointError, match=words):
        read_input_facts(write_config(tmp_path, pretrained_cfg=changes))


@torch.no_grad()
def test_folder_and_file_of_one_student_agree_at_any_size(tmp_path: Path) -> None:
    student = ViT("tiny", img_size=56, embed_dim=48, depth=1, num_heads=3).eval()
    arguments = dict(student.timm_args)
    description = {"architecture": arguments.pop("model_name"), "arguments": arguments, **STATISTICS}
    export_backbone(student.timm_state(), tmp_path / "model.safetensors", description)
    config = {"architecture": description["architecture"], "model_args": arguments, "pretrained_cfg": STATISTICS}
    (tmp_path / "config.json").write_text(json.dumps(config))
    images = torch.randn(1, 3, 84, 84)
    expected = student(images).patches
    for name in (tmp_path, tmp_path / "model.safetensors"):
        torch.testing.assert_close(load_backbone(name)(images).patches, expected)


def test_repository_in_the_cache(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"config.json of https://huggingface.co/me/student is not in.*--download"
    ):
        load_backbone("hf-hub:me/student")
    folder = tmp_path / "models--me--student"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots").mkdir()
    (folder / "snapshots/abc").symlink_to(exported, target_is_directory=True)
    backbone = load_backbone("hf-hub:me/student")
    assert (backbone.name, backbone.img_size, backbone.patch_size) == ("hf-hub:me/student", 64, 16)
    with pytest.raises(CheckpointError, match="hf-hub:student: write hf-hub:OWNER/NAME"):
        load_backbone("hf-hub:student")


def test_weights_of_another_architecture(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((exported / "config.json").read_text())
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit the model it is meant for"):
        load_backbone(tmp_path)
