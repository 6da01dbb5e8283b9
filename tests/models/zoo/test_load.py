"""From a name to a backbone, and to the configs of teachers and students."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, OPENAI_CLIP_MEAN

import proteus
from proteus.checkpoints import CheckpointError, export_backbone
from proteus.models import Distiller, ViT, build_backbone
from proteus.models.backbones import locate_backbone
from proteus.models.backbones.weight_file import read_weight_file
from proteus.models.zoo import backbone_spec, load_backbone, student_config, teacher_config
from proteus.models.zoo.known import PACKAGED_WEIGHTS
from proteus.structures import UserError

IMAGES = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a folder of weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


@torch.no_grad()
def test_packaged_weights_equal_those_of_locate_backbone() -> None:
    pytest.importorskip("onnx")
    backbone = load_backbone(PACKAGED_WEIGHTS)
    assert backbone.img_size == 518  # of its position embedding
    spec = locate_backbone(PACKAGED_WEIGHTS, img_size=518)
    assert torch.equal(backbone(IMAGES).patches, spec.build()(IMAGES).patches)
    assert (backbone.mean, backbone.std) == (spec.mean, spec.std)
    packaged = load_backbone("packaged", img_size=518)
    backbone.interpolate_offset = 0.0
    torch.testing.assert_close(packaged(IMAGES).patches, backbone.levels(IMAGES, [10])[0].patches)
    assert proteus.load_backbone is load_backbone


@torch.no_grad()
def test_known_name_loads_the_official_file(folder: Path) -> None:
    original = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0).eval()
    torch.save(original.state_dict(), "checkpoints/dinov2_vits14_reg4_pretrain.pth")
    backbone = load_backbone("dinov2_vits14_reg")
    assert (backbone.name, backbone.img_size, backbone.patch_size) == ("dinov2_vits14_reg", 518, 14)
    assert backbone.licence == "Apache-2.0"
    assert not backbone.training
    assert not any(value.requires_grad for value in backbone.parameters())
    # The file's own name and timm's name give the same features as the known name, at any size.
    by_file = load_backbone("checkpoints/dinov2_vits14_reg4_pretrain.pth")
    (folder / "checkpoints/dinov2_vits14_reg4_pretrain.pth").rename(
        folder / "checkpoints/vit_small_patch14_reg4_dinov2.lvd142m.safetensors.pth"
    )
    export_backbone(original.state_dict(), folder / "checkpoints/vit_small_patch14_reg4_dinov2.lvd142m.safetensors", {})
    by_timm = load_backbone("timm/vit_small_patch14_reg4_dinov2.lvd142m")
    expected = backbone(IMAGES).patches
    for other in (by_file, by_timm):
        torch.testing.assert_close(other(IMAGES).patches, expected)
        assert other.licence == "Apache-2.0"
    spec = backbone_spec("dinov2_vits14_reg", img_size=56)
    torch.testing.assert_close(spec.build()(IMAGES).patches, expected, atol=1e-5, rtol=1e-4)
    assert spec.note == "DINOv2 ViT-S/14, 4 registers (Meta)"


@torch.no_grad()
def test_timms_weights_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "test_vit.r160_in1k"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="--download"):
        backbone_spec(name)
    model = timm.create_model("test_vit").eval()
    folder = tmp_path / f"models--timm--{name}"
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("abc")
    save_file(model.state_dict(), folder / "snapshots/abc/model.safetensors")
    spec = backbone_spec(name, img_size=160)
    images = torch.randn(1, 3, 160, 160)
    torch.testing.assert_close(spec.build()(images).cls, model.forward_features(images)[:, 0])
    assert spec.mean == tuple(timm.get_pretrained_cfg(name).mean)


def test_file_of_another_architecture_than_its_name() -> None:
    torch.save(ViT("tiny", img_size=56).timm_state(), "checkpoints/dinov2_vits14_pretrain.pth")
    for load in (load_backbone, teacher_config):
        with pytest.raises(CheckpointError, match=r"width 384, 12 blocks.*the file: ViT of width 192") as caught:
            load("dinov2_vits14")
        assert "\n" not in str(caught.value)


def test_training_checkpoint_with_a_part(folder: Path) -> None:
    state = {f"student.{key}": value for key, value in ViT("tiny", depth=1).state_dict().items()}
    torch.save({"state_dict": state, "model_ema": {key: value + 1 for key, value in state.items()}}, "iter_2.pth")
    student, ema = load_backbone(folder / "iter_2.pth"), load_backbone("iter_2.pth#ema")
    torch.testing.assert_close(ema.vit.cls_token, student.vit.cls_token + 1)
    assert student.mean == tuple(IMAGENET_DEFAULT_MEAN)


@pytest.mark.parametrize(
    ("settings", "mean"),
    [
        ({"model.type": "proteus.Distiller", "model.data_preprocessor.mean": [0.5, 0.5, 0.5]}, (0.5, 0.5, 0.5)),
        ({"model.type": str(Distiller)}, IMAGENET_DEFAULT_MEAN),  # of the preprocessor, not of CLIP
        ({"model.type": "ImageClassifier", "model.data_preprocessor.mean": [123.7, 116.3, 103.5]}, OPENAI_CLIP_MEAN),
    ],
)
def test_training_checkpoint_has_the_statistics_of_its_run(settings: dict[str, Any], mean: tuple[float, ...]) -> None:
    student = ViT("clip-base", depth=1)
    state = {f"student.{key}": value for key, value in student.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"settings": json.dumps(settings)}}, "iter_2.pth")
    assert read_weight_file("iter_2.pth").mean == tuple(mean)


def test_architecture_of_a_cnn_and_of_official_files() -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), "cnn.pth")
    with pytest.raises(CheckpointError, match="add --arch NAME"):
        load_backbone("cnn.pth")
    assert load_backbone("cnn.pth", arch="test_resnet").img_size == 160
    settings = json.dumps({"model.type": "proteus.Distiller", "model.student.img_size": 56})
    torch.save({"state_dict": torch.load("cnn.pth"), "meta": {"settings": settings}}, "iter_2.pth")
    assert load_backbone("iter_2.pth", arch="test_resnet").img_size == 56
    with pytest.raises(UserError, match=r"--arch test_resnt: .*nearest: .*test_resnet"):
        load_backbone("cnn.pth", arch="test_resnt")
    torch.save(
        timm.create_model("convnext_tiny", num_classes=0).state_dict(),
        "dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth",
    )
    backbone = load_backbone("dinov3_convnext_tiny_pretrain_lvd1689m-21b726bb.pth")
    assert (backbone.licence, backbone.patch_size, backbone.embed_dim) == ("DINOv3 License", None, 768)


def test_random_weights_are_the_same_each_time() -> None:
    first, again, other = (load_backbone(f"random:test_vit{seed}") for seed in ("", ":0", ":1"))
    assert torch.equal(first.vit.cls_token, again.vit.cls_token)
    assert not torch.equal(first.vit.cls_token, other.vit.cls_token)
    assert torch.equal(first.vit.cls_token, locate_backbone("random:test_vit").build().vit.cls_token)
    eva = load_backbone("random:eva02_vitt14")
    assert (eva.mean, eva.patch_size, eva.licence) == (OPENAI_CLIP_MEAN, 14, "")
    assert load_backbone("random:vit_tiny").embed_dim == 192


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dinov2_vitb15", "unknown model 'dinov2_vitb15'; nearest: dinov2_vitb14"),
        ("resnet5", "unknown model 'resnet5'; nearest: .*resnet50"),
        ("dinov2_vitb14", "dinov2_vitb14: its weights are not on this machine; put dinov2_vitb14_pretrain.pth"),
        ("vit_small", "vit_small is an architecture without trained weights: write random:vit_small"),
        ("torchvision/resnet18", "unknown model 'torchvision/resnet18'; nearest: timm/resnet18"),
        ("nowhere/resnet18.pth", "weights not found: nowhere/resnet18.pth"),
        ("nowhere/student.safetensors", "weights not found: nowhere/student.safetensors"),
        ("student.pth", "weights not found: student.pth"),
        ("checkpoints", "checkpoints is a folder without a model"),
        ("random:resnet5", "nearest: .*resnet50"),
        ("random:dinov2_vits14:one", "the seed is 'one', write a number: random:dinov2_vits14:0"),
        ("package:absent-package/file.pth", "package 'absent-package', which is not installed"),
    ],
)
def test_mistake_is_one_line(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_a_model_folder_comes_before_a_name(folder: Path) -> None:
    timm.models.save_for_hf(timm.create_model("test_vit", num_classes=0), folder / "vit_small", safe_serialization=True)
    backbone = load_backbone("vit_small")
    assert (backbone.embed_dim, backbone.img_size) == (64, 160)
    assert backbone_spec("vit_small").build()(torch.zeros(1, 3, 160, 160)).cls.shape == (1, 64)


def test_spec_of_random_weights_and_files_equals_locate_backbone() -> None:
    torch.save(ViT("tiny", depth=1, img_size=56).timm_state(), "student.pth")
    for name in ("random:test_vit:2", "student.pth"):
        assert backbone_spec(name, img_size=224) == locate_backbone(name, img_size=224)


def test_device_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="device 'gpu'"):
        load_backbone("random:test_vit", device="gpu")
    assert load_backbone("random:test_vit", device="meta").vit.cls_token.is_meta


def test_teacher_config_builds_the_same_backbone() -> None:
    state = ViT("small", img_size=56, depth=12).timm_state()
    torch.save(state, "checkpoints/dinov2_vits14_pretrain.pth")
    config, record = teacher_config("dinov2_vits14", 56)
    assert config == {
        "type": "ViT",
        "arch": "small",
        "patch_size": 14,
        "img_size": 56,
        "checkpoint": "checkpoints/dinov2_vits14_pretrain.pth",
    }
    assert (record.title, record.img_size) == ("DINOv2 ViT-S/14 (Meta)", 518)
    assert torch.equal(build_backbone(config).vit.cls_token, state["cls_token"])
    with pytest.raises(UserError, match=r"dinov2_vits14, --img-size 57: .*write 56 or 70"):
        teacher_config("dinov2_vits14", 57)


def test_random_teacher_is_drawn_by_the_run() -> None:
    config, record = teacher_config("random:test_vit", 64)
    assert "checkpoint" not in config
    assert (record.width, record.img_size, record.seed) == (64, 64, 0)
    with pytest.raises(UserError, match=r"write random:test_vit$"):
        teacher_config("random:test_vit:3")


def test_student_config() -> None:
    config, record = student_config("vit_small", 16, 224)
    assert config == {"type": "ViT", "arch": "small", "patch_size": 16, "img_size": 224}
    assert (record.patch_size, record.img_size, record.width, record.licence) == (16, 224, 384, "")
    config, record = student_config("timm/test_resnet", 14, 160)
    assert config == {"type": "TimmBackbone", "arch": "test_resnet", "img_size": 160}
    assert (record.patch_size, record.files, record.licence) == (None, (), "")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("vit_smal", 224, "unknown student 'vit_smal'; nearest: vit_small"),
        ("dinov2_vits14", 224, "unknown student 'dinov2_vits14'"),
        ("fastvit_t8", 224, "unknown student 'fastvit_t8'; nearest: timm/fastvit_t8"),
        ("torchvision/resnet18", 224, "unknown student 'torchvision/resnet18'; nearest: timm/resnet18"),
        ("timm/resnet5", 224, "nearest: timm/resnet50"),
        ("timm/test_resnet.r160_in1k", 224, "starts from random weights; write timm/test_resnet"),
        ("vit_tiny", 225, "img_size=225 is not a multiple of patch_size=14: write 224 or 238"),
    ],
)
def test_student_that_cannot_be_built(name: str, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        student_config(name, 14, size)
