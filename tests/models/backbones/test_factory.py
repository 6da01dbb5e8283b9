"""From a name to a backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import transformers
from timm.data import OPENAI_CLIP_MEAN

from proteus.checkpoints import CheckpointError, export_backbone, to_timm_keys
from proteus.models.backbones import TimmBackbone, ViT, locate_backbone
from proteus.structures import DataError

SMALL = {"arch": "tiny", "img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 3}


def exported(path: Path, model: ViT | TimmBackbone, **about: object) -> Path:
    arguments = dict(model.timm_args)
    description = {"architecture": arguments.pop("model_name"), "arguments": arguments, **about}
    return export_backbone(model.timm_state(), path, {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), **description})


@torch.no_grad()
def test_an_exported_student_is_built_from_what_it_says_of_itself(tmp_path: Path) -> None:
    student = ViT(**SMALL, reg_tokens=2).eval()
    spec = locate_backbone(str(exported(tmp_path / "s.safetensors", student, teacher="T")), img_size=56)
    images = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(spec.build()(images).cls, student(images).cls)
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert "distilled from T" in spec.note


@torch.no_grad()
def test_an_exported_cnn_is_built_too(tmp_path: Path) -> None:
    student = TimmBackbone("test_convnext").eval()
    spec = locate_backbone(str(exported(tmp_path / "s.safetensors", student)))
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(spec.build()(images).cls, student(images).cls)


@torch.no_grad()
@pytest.mark.parametrize("arch", ["pit_ti_224", "efficientvim_m1", "coat_tiny"])
def test_an_exported_student_without_patches_gives_its_last_map(tmp_path: Path, arch: str) -> None:
    student = TimmBackbone(arch, levels=(-1,)).eval()
    spec = locate_backbone(str(exported(tmp_path / "s.safetensors", student)))
    images = torch.randn(1, 3, 224, 224)
    found, expected = spec.build()(images), student(images)
    torch.testing.assert_close((found.cls, found.patches), (expected.cls, expected.patches))


@torch.no_grad()
def test_published_weights_are_recognised(tmp_path: Path) -> None:
    original = ViT("small", img_size=518, depth=2).eval()
    torch.save(original.timm_state(), tmp_path / "dinov2.pth")
    spec = locate_backbone(str(tmp_path / "dinov2.pth"))
    assert (spec.config["arch"], spec.config["depth"]) == ("small", 2)
    assert "DINOv2 ViT-S/14" in spec.note
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(spec.build()(images).cls, original(images).cls, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("names", ["timm", "Meta", "transformers"])
def test_dinov3_is_recognised(names: str, tmp_path: Path) -> None:
    sizes: dict[str, int] = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 12}
    config = transformers.DINOv3ViTConfig(**sizes, num_attention_heads=3, num_register_tokens=4, initializer_range=0.1)
    original = transformers.DINOv3ViTModel(config).eval()
    state = original.state_dict()
    if names != "transformers":
        state = to_timm_keys(state)
        del state["mask_token"]
    if names == "Meta":
        state["storage_tokens"] = state.pop("reg_token")
        for block in range(12):
            query, value = (state.pop(f"blocks.{block}.attn.{part}_bias") for part in "qv")
            state[f"blocks.{block}.attn.qkv.bias"] = torch.cat([query, torch.ones(192), value])
    torch.save(state, tmp_path / "weights.pth")
    spec = locate_backbone(str(tmp_path / "weights.pth"), img_size=32)
    assert spec.note == "recognised as vit_tiny_patch16_dinov3_qkvb; mean and std of its family"
    images = torch.randn(1, 3, 32, 32)
    wanted = original(images).last_hidden_state[:, 0]
    torch.testing.assert_close(spec.build()(images).cls, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arch", "found"),
    [
        ("vit_small_patch16_dinov3", "DINOv3 ViT-48/16 of width 48"),  # of an unknown size
        ("vit_small_patch16_rope_224", "plain ViT-48/16 of width 48"),
        ("beit_base_patch16_224", "plain ViT-48/16 of width 48"),
    ],
)
def test_other_positions_than_learnt_ones_need_an_architecture(arch: str, found: str, tmp_path: Path) -> None:
    model = timm.create_model(arch, num_classes=0, embed_dim=48, depth=1, num_heads=3)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"holds a {found} without a position embedding.*: add --arch NAME"):
        locate_backbone(str(tmp_path / "weights.pth"))


def test_clips_own_statistics_come_with_its_form(tmp_path: Path) -> None:
    torch.save(ViT("clip-base", patch_size=16).timm_state(), tmp_path / "clip.pth")
    assert locate_backbone(str(tmp_path / "clip.pth")).mean == OPENAI_CLIP_MEAN


def test_a_training_checkpoint_gives_student_or_average(tmp_path: Path) -> None:
    state = {f"student.{key}": value for key, value in ViT("small", depth=1).state_dict().items()}
    average = {key: value + 1 for key, value in state.items()}
    torch.save({"state_dict": state, "model_ema": average}, tmp_path / "iter_2.pth")
    student, ema = (locate_backbone(f"{tmp_path / 'iter_2.pth'}{part}") for part in ("", "#ema"))
    assert student.digest != ema.digest
    torch.testing.assert_close(ema.build().vit.cls_token, student.build().vit.cls_token + 1)


def test_width_of_unknown_heads_raises(tmp_path: Path) -> None:
    torch.save(ViT(**SMALL).timm_state(), tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match=r"width 48.*--arch"):
        locate_backbone(str(tmp_path / "small.pth"))


def test_the_digest_is_of_weights_and_architecture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = ViT(**SMALL)
    first, again = (
        locate_backbone(str(exported(tmp_path / name, student)), img_size=56)
        for name in ("a.safetensors", "b.safetensors")
    )
    assert first.digest == again.digest
    assert locate_backbone(str(tmp_path / "a.safetensors"), img_size=112).digest != first.digest
    with torch.no_grad():
        student.vit.cls_token += 1e-3
    assert locate_backbone(str(exported(tmp_path / "c.safetensors", student)), img_size=56).digest != first.digest


def test_random_weights_are_the_same_each_time_and_leave_the_random_state() -> None:
    before = torch.get_rng_state()
    spec = locate_backbone("random:test_vit")
    first, second = spec.build().state_dict(), spec.build().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = locate_backbone("random:test_vit:1").build().state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random:resnet5", "nearest: .*resnet50"),
        ("random:tiny:first", "the seed is 'first'"),
    ],
)
def test_unknown_name_suggests_the_nearest(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        locate_backbone(name)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("pit_ti_224", r"^random:pit_ti_224: timm's pit_ti_224 gives its cls token and no patches; .*another model"),
        ("crossvit_tiny_240", r"^random:crossvit_tiny_240: does not take images of 224 px; write another --img-size$"),
    ],
)
def test_a_backbone_without_patches_is_refused_before_images_are_read(arch: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        locate_backbone(f"random:{arch}").build()


def test_missing_file_and_file_of_unknown_architecture(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="weights not found"):
        locate_backbone("nowhere/student.safetensors")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "cnn.pth")
    with pytest.raises(CheckpointError, match="add --arch"):
        locate_backbone(str(tmp_path / "cnn.pth"))
    spec = locate_backbone(str(tmp_path / "cnn.pth"), arch="test_resnet")
    assert spec.config["type"] == "TimmBackbone"
    first = next(iter(torch.load(tmp_path / "cnn.pth").values()))
    assert torch.equal(next(spec.build().parameters()), first)
