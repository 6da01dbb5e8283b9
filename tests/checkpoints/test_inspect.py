from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError, export_backbone, from_timm_keys, inspect_file
from proteus.models import ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 24, "depth": 2, "num_heads": 3}


def rows(path: str | Path) -> dict[str, str]:
    """What is said, by title; a title that comes twice keeps both."""
    found: dict[str, str] = {}
    for line in inspect_file(path).splitlines()[1:]:
        title, text = line[:16].strip(), line[16:]
        found[title] = f"{found[title]}; {text}" if title in found else text
    return found


def test_dinov2(tmp_path: Path) -> None:
    with torch.device("meta"):
        shape = ViT("small", img_size=518, reg_tokens=4).timm_state()
    state = {key: torch.zeros(value.shape) for key, value in shape.items()}
    torch.save(from_timm_keys(state, "dinov2"), tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    assert inspect_file(tmp_path / "dinov2_vits14_reg4_pretrain.pth").startswith(
        f"{tmp_path}/dinov2_vits14_reg4_pretrain.pth: 175 tensors, 22.06 M values, float32\n"
    )
    assert rows(tmp_path / "dinov2_vits14_reg4_pretrain.pth") == {
        "family": "DINOv2 ViT-S/14",
        "size": "width 384, 12 blocks, plain MLP",
        "patch": "14 px, positions 37x37, 518 px",
        "registers": "4",
        "LayerScale": "yes",
        "mask token": "no",
        "names": "Meta's DINOv2",
        "heads": "none",
        "parts": "single model",
        "licence": "Apache-2.0 if these are Meta's weights",
    }


def test_published_checkpoint(tmp_path: Path) -> None:
    state = ViT("tiny", **NARROW).timm_state()
    model = {f"{part}.backbone.{key}": value for part in ("student", "teacher") for key, value in state.items()}
    model |= {"token_head.0.weight": torch.ones(24), "token_head.1.weight": torch.ones(32, 24)}
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": model, "model_ema": {**state, "mask_token": torch.ones(1, 24)}, "epoch": 299}, path)
    found = rows(path)
    assert found["family"] == "DINOv2 ViT-24/14, under student.backbone.*"
    assert found["also holds"] == "model, model_ema, epoch"
    assert found["heads"] == "token_head: 24 -> 32"
    assert found["parts"] == "#student, #teacher, #ema"
    assert found["mask token"] == "no"
    assert rows(f"{path}#ema")["mask token"] == "yes"
    assert rows(f"{path}#teacher")["family"] == "DINOv2 ViT-24/14, under teacher.backbone.*"


def test_clip(tmp_path: Path) -> None:
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.CLIPConfig(vision_config={**size, "image_size": 56, "patch_size": 14}, text_config=size)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    found = rows(tmp_path / "model.safetensors")
    assert found["family"] == "CLIP ViT-24/14, under vision_model.*"
    assert found["names"] == "Hugging Face CLIP"
    assert "QuickGELU in OpenAI's" in found["activation"]
    assert found["licence"] == "MIT if these are OpenAI's weights"


@pytest.mark.parametrize(("form", "scheme"), [("mmpretrain", "mmpretrain"), ("mmseg", "mmseg"), ("hf", "Hugging Face")])
def test_naming_schemes_are_recognised(form: str, scheme: str, tmp_path: Path) -> None:
    torch.save(from_timm_keys(ViT("giant", **NARROW).timm_state(), form), tmp_path / "a.pth")
    found = rows(tmp_path / "a.pth")
    assert found["names"] == scheme
    assert found["size"] == "width 24, 2 blocks, gated (SwiGLU) MLP"


def test_dinov3(tmp_path: Path) -> None:
    sizes = {"embed_dim": 384, "depth": 1, "img_size": 32, "num_classes": 0}
    state = timm.create_model("vit_small_plus_patch16_dinov3", **sizes).state_dict()
    save_file(state, tmp_path / "timm.safetensors")
    found = rows(tmp_path / "timm.safetensors")
    assert found["family"] == "DINOv3 ViT-S/16"
    assert found["size"] == "width 384, 1 blocks, gated (SwiGLU) MLP"
    assert found["patch"] == "16 px, positions rotary"
    assert (found["registers"], found["LayerScale"], found["names"]) == ("4", "yes", "timm")
    assert found["licence"] == "DINOv3 License if these are Meta's weights"
    names = {"reg_token": "storage_tokens", "blocks.0.gamma_1": "blocks.0.ls1.gamma"}
    names |= {f"blocks.0.mlp.fc1_g.{kind}": f"blocks.0.mlp.w1.{kind}" for kind in ("weight", "bias")}
    save_file({names.get(key, key): value for key, value in state.items()}, tmp_path / "meta.safetensors")
    meta = rows(tmp_path / "meta.safetensors")
    assert meta == {**found, "names": "Meta's DINOv3"}


def test_dinov3_of_transformers(tmp_path: Path) -> None:
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.DINOv3ViTConfig(**sizes, num_register_tokens=4, use_gated_mlp=True)
    transformers.DINOv3ViTModel(config).save_pretrained(tmp_path)
    found = rows(tmp_path / "model.safetensors")
    assert found["family"] == "DINOv3 ViT-48/16"
    assert found["size"] == "width 48, 2 blocks, gated (SwiGLU) MLP"
    assert (found["patch"], found["LayerScale"]) == ("16 px, positions rotary", "yes")
    assert (found["names"], found["mask token"]) == ("Hugging Face", "yes")


@pytest.mark.parametrize(
    ("arch", "options"), [("beit_base_patch16_224", {}), ("cait_xxs24_224", {"depth_token_only": 1})]
)
def test_layer_scale_of_beit_and_cait(arch: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = timm.create_model(arch, num_classes=0, **{**NARROW, "patch_size": 14, "img_size": 56}, **options)
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    found = rows(tmp_path / "timm.safetensors")
    assert found["LayerScale"] == "yes"
    assert (found["family"], found["names"]) == ("plain ViT-24/14", "timm")
    assert found["licence"] == "not known from the file"


def test_a_classifier(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=1)
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    found = rows(tmp_path / "timm.safetensors")
    assert found["family"] == "plain ViT-Ti/16, classifier of 10 classes"
    assert found["LayerScale"] == "no: init_values=None"
    assert found["names"] == "timm"


def test_description_of_an_export(tmp_path: Path) -> None:
    description = {"architecture": "vit_tiny_patch16_224", "arguments": {}, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    description |= {"teacher": "DINOv2 ViT-S/14 (Meta, Apache-2.0)"}
    path = export_backbone(ViT("tiny", **NARROW).timm_state(), tmp_path / "student.safetensors", description)
    found = rows(path)
    assert found["teacher"] == "DINOv2 ViT-S/14 (Meta, Apache-2.0)"
    assert found["architecture"] == "vit_tiny_patch16_224"
    assert "  architecture  vit_tiny_patch16_224\n" in inspect_file(path)
    assert found["licence"] == "not in the file; its teacher is named above"
    path.rename(tmp_path / "model.safetensors")
    assert rows(tmp_path) == found


def test_another_family(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "resnet.safetensors")
    found = rows(tmp_path / "resnet.safetensors")
    assert found["family"] == "no ViT; names begin with bn1, conv1, fc, layer1, layer2, layer3, layer4"
    assert found["licence"] == "not known from the file"


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(CheckpointError, match="is a folder: name a file in it"):
        inspect_file(tmp_path)
    with pytest.raises(CheckpointError, match="not a weight file"):
        inspect_file(tmp_path / "page.pth")
