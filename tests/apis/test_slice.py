"""One slice of a tiny teacher by the command line, and what is refused before."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.registry import DefaultScope
from runs import ROOT, write_described, write_images
from safetensors.torch import load_file

import proteus
import proteus.apis.slice as module
from proteus.apis import load_config
from proteus.apis.distillation.data import find_images
from proteus.apis.slice import SliceResult
from proteus.cli.slice import main, parse_args
from proteus.datasets import ImageFolder
from proteus.models import ViT
from proteus.registry import MODELS
from proteus.structures import DataError, UserError

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the weights of a teacher."""
    folder = tmp_path_factory.mktemp("slice")
    write_images(folder / "photos", 24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = ViT("small", img_size=28, depth=2, reg_tokens=1)
    write_described(folder / "teacher.safetensors", teacher, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])
    return folder


@pytest.fixture(scope="module")
def sliced(place: Path) -> tuple[SliceResult, str]:
    """The slice, and what was printed."""
    printed = io.StringIO()
    results: list[SliceResult] = []
    slice_model = module.slice
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(module, "slice", lambda *args, **options: results.append(slice_model(*args, **options)))
        command = ["--teacher", str(place / "teacher.safetensors"), "--student", "vit_tiny"]
        command += ["--data", str(place / "photos"), "--out", str(place / "out"), "--img-size", "28", "--views", "12"]
        assert main(parse_args(command)) == 0
    return results[0], printed.getvalue()


def test_the_model_folder_is_written(sliced: tuple[SliceResult, str]) -> None:
    result, _ = sliced
    assert {"model.safetensors", "config.json", "README.md"} <= {path.name for path in result.out.iterdir()}
    config = json.loads((result.out / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [0.5, 0.4, 0.3]
    card = (result.out / "README.md").read_text()
    assert "proteus slice --teacher" in card
    assert "ViT-Ti sliced from teacher.safetensors" in card
    assert "This model was not trained." in card
    assert f"centred cosine {result.metrics['centered_cosine_patch']:.3f}" in card
    assert "| training images | photos, 19 images |" in card


def test_the_written_student_is_the_fitted_one(sliced: tuple[SliceResult, str]) -> None:
    backbone: Any = proteus.load_backbone(sliced[0].out)
    assert backbone.vit.reg_token.shape == (1, 1, 192)  # the teacher's registers
    assert backbone.vit.blocks[0].norm1.weight.eq(1).all()  # its gains are in the weights that follow
    assert backbone.vit.pos_embed.sum(-1).abs().max() < 1e-5  # nothing along the ones
    assert len(backbone.vit.blocks) == 12


def test_errors_and_agreement_are_printed(sliced: tuple[SliceResult, str]) -> None:
    result, printed = sliced
    assert len(result.errors) == 2  # the teacher's blocks
    assert all(0 <= error < 0.2 for error in result.errors)
    for number, error in enumerate(result.errors, 1):
        assert f"{number:>5}  {error:.3f}\n" in printed
    for name in ("cls", "patch"):
        assert f"{result.metrics[f'unexplained_variance_{name}']:.3f}" in printed
    assert result.metrics["centered_cosine_patch"] > 0.5
    assert "5 more are held out" in printed
    assert f"model folder: {result.out}" in printed


def test_a_clip_in_timms_layout_is_sliced(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder as timm writes it, of a model with a norm before the blocks; the student has none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = dict(img_size=32, embed_dim=96, depth=3, num_heads=3)
        clip = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=0, **sizes)
        for value in clip.parameters():
            value.data.add_(0.05 * torch.randn_like(value))
    assert isinstance(clip.norm_pre, torch.nn.LayerNorm)
    timm.models.save_for_hf(clip, tmp_path / "clip", model_args=sizes, safe_serialization=True)
    out = tmp_path / "out"
    result = proteus.slice(
        str(tmp_path / "clip"), "timm/test_vit", data=place / "photos", out=out, views=12, img_size=32
    )
    printed = capsys.readouterr().out
    assert len(result.errors) == 3
    for number, error in enumerate(result.errors, 1):
        assert 0 < error < 0.5
        assert f"{number:>5}  {error:.3f}\n" in printed
    assert {"model.safetensors", "config.json", "README.md"} <= {path.name for path in out.iterdir()}
    backbone: Any = proteus.load_backbone(out)
    state = load_file(out / "model.safetensors")
    assert not any(name.startswith("norm_pre") for name in state)
    torch.testing.assert_close(backbone.timm_state(), state, rtol=0, atol=0)
    images = torch.rand(2, 3, 32, 32)
    features = backbone(images)
    assert features.patches.shape == (2, 4, 64)
    theirs = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(features.patches, theirs.forward_features(images)[:, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "upernet"])
def test_a_slice_is_the_backbone_of_a_segmentor(kind: str, sliced: tuple[SliceResult, str]) -> None:
    pytest.importorskip("mmseg")
    file = sliced[0].out / "model.safetensors"
    # As a user changes the config: size and registers are those of the slice.
    changes = {"checkpoint": str(file), "img_size": 28, "reg_tokens": 1, "final_norm": True}
    cfg = load_config(
        ROOT / f"configs/ade20k/vit-ti_{kind}.py", {f"model.backbone.{key}": value for key, value in changes.items()}
    )
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        segmentor = MODELS.build(cfg.model).eval()
    torch.testing.assert_close(segmentor.backbone.timm_state(), load_file(file), rtol=0, atol=0)
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    own: Any = proteus.load_backbone(sliced[0].out)
    with torch.no_grad():
        features, maps = own(images), segmentor.backbone(images)
        logits = segmentor(images) if kind == "linear" else None
    assert len(maps) == 4
    torch.testing.assert_close(maps[-1].flatten(2).mT, features.patches, rtol=1e-5, atol=1e-5)
    if logits is not None:
        assert logits.shape == (2, 150, 2, 2)


def test_unreadable_images_are_named_and_not_counted(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_images(tmp_path / "photos")
    images = find_images(photos)
    broken = []
    for split in ("train", "held-out"):
        name = ImageFolder(str(photos), split=split, held_out=images.share).names()[0]
        broken.append(photos / name)
        broken[-1].write_bytes(b"")
    proteus.slice(
        str(place / "teacher.safetensors"), "vit_tiny", data=photos, out=tmp_path / "out", views=12, img_size=28
    )
    printed = capsys.readouterr().err
    for path in broken:
        assert printed.count(f"unreadable image replaced: {path} (") == 1
    card = (tmp_path / "out/README.md").read_text()
    assert f"| training images | photos, {images.train - 1} images |" in card
    assert f"| held-out images | {images.held_out - 1} |" in card


def test_without_images_it_is_fitted_on_noise(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NOISE_VIEWS", 16)
    teacher = str(place / "teacher.safetensors")
    result = proteus.slice(teacher, "vit_tiny", out=place / "noise", views=0, img_size=28)
    assert result.metrics == {}
    assert "noise: a fit without images, which is worse" in capsys.readouterr().out
    assert "fitted on 16 images of noise" in (place / "noise/README.md").read_text()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": None}, "--data is missing: name a folder of images, or write --views 0"),
        ({"views": 0}, "--views 0 is a fit without images, and --data names some"),
        ({"views": -1}, "--views: found -1"),
        ({"data": "nowhere"}, "'nowhere': no such folder"),
        ({"teacher": "dinov2_vitb15"}, "dinov2_vitb14"),
        ({"student": "vit_smal"}, "vit_small"),
        (
            {"student": "vit_base"},
            "--student vit_base: a slice must be no larger than the teacher: embed_dim is 768",
        ),
        ({"student": "timm/resnet10t"}, "makes a ViT out of a ViT; the student is TimmBackbone"),
        ({"img_size": 30}, "--img-size 30 is not a multiple of the teacher's patch size 14: write 28 or 42"),
        ({"device": "cuda:9"}, "cuda:9"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_mistakes_are_one_line(place: Path, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    given = {"teacher": str(place / "teacher.safetensors"), "student": "vit_tiny", "data": place / "photos", "views": 8}
    with pytest.raises(UserError) as caught:
        proteus.slice(**{**given, **changed}, out=tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_files_and_small_folders_are_refused(place: Path, tmp_path: Path) -> None:
    teacher = str(place / "teacher.safetensors")
    write_images(tmp_path / "few", 1)
    with pytest.raises(DataError, match=r"data: 1 image in .*: use 20 or more"):
        proteus.slice(teacher, "vit_tiny", data=tmp_path / "few", out=tmp_path / "out")
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match=r"holds README\.md, which would be overwritten; name another folder"):
        proteus.slice(teacher, "vit_tiny", data=place / "photos", out=tmp_path)
