"""One CLIP vision tower, other people's implementations: features agree to 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip.model
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models import ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 64, "depth": 3, "num_heads": 2}
FORMS = ["open_clip", "archive", "visual alone", "proteus' release", "transformers", "transformers' tower", "timm"]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def images() -> Tensor:
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))


def shaken(model: nn.Module) -> nn.Module:
    """No parameter keeps its initial value: zeros and ones would hide a swap."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def open_clips(patch: int = 14, quick_gelu: bool = True) -> nn.Module:
    torch.manual_seed(0)
    vision = open_clip.model.CLIPVisionCfg(layers=3, width=64, head_width=32, patch_size=patch, image_size=patch * 4)
    text = open_clip.model.CLIPTextCfg(context_length=8, vocab_size=20, width=16, heads=2, layers=1)
    return shaken(open_clip.model.CLIP(16, vision, text, quick_gelu=quick_gelu))


@torch.inference_mode()
def encoded_by_open_clip(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """cls and patches after ``ln_post``, before the projection."""
    visual = model.visual
    visual.proj, visual.output_tokens = None, True
    return visual(pixels)


def huggings(tower: bool) -> nn.Module:
    torch.manual_seed(0)
    size = {"num_attention_heads": 2, "num_hidden_layers": 3}
    vision = {"hidden_size": 64, "intermediate_size": 256, "image_size": 56, "patch_size": 14, **size}
    config = transformers.CLIPConfig(vision_config=vision, text_config={"hidden_size": 16, "num_attention_heads": 2})
    return shaken(transformers.CLIPVisionModel(config.vision_config) if tower else transformers.CLIPModel(config))


@torch.inference_mode()
def encoded_by_transformers(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    tower = getattr(model, "vision_model", model)
    tokens = tower.post_layernorm(tower(pixels).last_hidden_state)
    return tokens[:, 0], tokens[:, 1:]


class Encoder(nn.Module):
    """CLIP's image side, as a module that can be traced with the names of the whole."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual, self.logit_scale = model.visual, model.logit_scale

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)


def made(form: str, folder: Path) -> tuple[Path, tuple[Tensor, Tensor]]:
    """A file of one of the forms, and what the library that it comes from computes with its weights."""
    path = folder / "clip.pth"
    if form.startswith("transformers"):
        model = huggings(tower=form != "transformers")
        model.save_pretrained(folder)  # type: ignore[operator]
        return folder / "model.safetensors", encoded_by_transformers(model, images())
    if form == "timm":
        theirs = shaken(timm.create_model("vit_large_patch14_clip_quickgelu_224", num_classes=16, **NARROW))
        save_file(theirs.state_dict(), folder / "timm.safetensors")
        with torch.inference_mode():
            tokens = theirs.forward_features(images())  # type: ignore[operator]
        return folder / "timm.safetensors", (tokens[:, 0], tokens[:, 1:])
    model = open_clips()
    if form == "archive":
        torch.jit.trace(Encoder(model).eval(), images(), check_trace=False).save(str(path))
    else:
        visual = {key[7:]: value for key, value in model.state_dict().items() if key.startswith("visual.")}
        teacher = {f"teacher.backbone.{key}": torch.zeros_like(value) for key, value in visual.items()}
        student = {f"student.backbone.{key}": value for key, value in visual.items() if key != "proj"}
        head = {"token_head.0.weight": torch.zeros(64), "token_head.1.weight": torch.zeros(32, 64)}
        states = {"open_clip": model.state_dict(), "visual alone": visual}
        torch.save(states.get(form) or {"model": {**teacher, **head, **student}, "epoch": 299}, path)
    return path, encoded_by_open_clip(model, images())


@torch.inference_mode()
def compare(vit: ViT, expected: tuple[Tensor, Tensor], pixels: Tensor | None = None) -> None:
    found = vit.eval()(images() if pixels is None else pixels)
    close(found.cls, expected[0])
    close(found.patches, expected[1])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_clip_gives_its_own_librarys_features(form: str, tmp_path: Path) -> None:
    path, expected = made(form, tmp_path)
    compare(ViT("clip-large", checkpoint=path, **NARROW), expected)


@pytest.mark.parametrize("form", ["open_clip", "transformers", "timm"])
def test_without_quickgelu_the_features_are_others(form: str, tmp_path: Path) -> None:
    path, expected = made(form, tmp_path)
    plain = ViT("vit_large_patch14_clip_224", checkpoint=path, **NARROW)
    with pytest.raises(AssertionError, match="not close"):
        compare(plain, expected)


def test_open_clips_own_training_has_plain_gelu(tmp_path: Path) -> None:
    model = open_clips(quick_gelu=False)
    torch.save(model.state_dict(), tmp_path / "laion.pth")
    plain = ViT("vit_large_patch14_clip_224", checkpoint=tmp_path / "laion.pth", **NARROW)
    compare(plain, encoded_by_open_clip(model, images()))


def test_clip_base_has_patches_of_16(tmp_path: Path) -> None:
    model = open_clips(patch=16)
    torch.save(model.state_dict(), tmp_path / "clip.pth")
    pixels = torch.randn(1, 3, 64, 64)
    vit = ViT("clip-base", patch_size=16, checkpoint=tmp_path / "clip.pth", **{**NARROW, "img_size": 64})
    compare(vit, encoded_by_open_clip(model, pixels), pixels)


@pytest.mark.parametrize(
    ("arch", "width", "depth", "heads"), [("clip-base", 768, 12, 12), ("clip-large", 1024, 24, 16)]
)
def test_the_student_of_the_clip_form_is_openais(arch: str, width: int, depth: int, heads: int) -> None:
    # LayerNorm before the blocks, QuickGELU, eps 1e-5, patches without bias; patch 14 for both
    # (docs/reproduction.md#synclr-and-clip).
    with torch.device("meta"):
        model = ViT(arch)
    assert (model.embed_dim, model.depth, model.vit.blocks[0].attn.num_heads) == (width, depth, heads)
    assert (model.grid, model.patch_size) == ((16, 16), 14)
    assert isinstance(model.vit.norm_pre, nn.LayerNorm)
    assert type(model.vit.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.LayerNorm)} == {1e-5}
    assert not any("gamma" in key or key == "vit.patch_embed.proj.bias" for key in model.state_dict())
    assert model.timm_args["init_values"] == 0.0


def test_clip_and_dinov2_are_not_taken_for_each_other(tmp_path: Path) -> None:
    torch.save(open_clips().state_dict(), tmp_path / "clip.pth")
    torch.save(ViT("tiny", **NARROW).timm_state(), tmp_path / "dinov2.pth")
    with pytest.raises(CheckpointError, match=r"\(ViT of width 64, 3 blocks.*the file: CLIP ViT of width 64, 3 blocks"):
        ViT("tiny", checkpoint=tmp_path / "clip.pth", **NARROW)
    with pytest.raises(CheckpointError, match=r"\(CLIP ViT of width 64.*the file: ViT of width 64"):
        ViT("clip-large", checkpoint=tmp_path / "dinov2.pth", **NARROW)


def test_other_image_encoders_of_open_clip_are_refused(tmp_path: Path) -> None:
    vision = open_clip.model.CLIPVisionCfg(layers=(1, 1, 1, 1), width=64, image_size=64)
    text = open_clip.model.CLIPTextCfg(context_length=8, vocab_size=20, width=16, heads=2, layers=1)
    torch.save(open_clip.model.CLIP(16, vision, text).state_dict(), tmp_path / "rn50.pth")
    with pytest.raises(CheckpointError, match=r"rn50\.pth does not fit .*CLIP ViT.*the file: \d+ tensors, no ViT"):
        ViT("clip-large", checkpoint=tmp_path / "rn50.pth", **NARROW)
