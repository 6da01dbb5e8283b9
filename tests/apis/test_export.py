from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import proteus
from proteus.checkpoints import export_backbone, read_description
from proteus.exporters import ExportModel, write_model_folder
from proteus.exporters.model import input_facts
from proteus.models import TimmBackbone, ViT
from proteus.models.backbones import architecture_of
from proteus.models.heads.head_file import student_digest
from proteus.structures import UserError

SIZES: dict[str, Any] = {"img_size": 56, "embed_dim": 48, "depth": 1, "num_heads": 3}


def quiet(line: str) -> None:
    pass


def write_student(path: Path, seed: int = 0, **options: Any) -> ViT:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = ViT("tiny", **{**SIZES, **options}).eval().requires_grad_(False)
    architecture, arguments = architecture_of(student)
    facts = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "teacher": "a teacher", "iterations": 7}
    export_backbone(student.timm_state(), path, {"architecture": architecture, "arguments": arguments, **facts})
    return student


def test_a_student_with_its_average(tmp_path: Path) -> None:
    student = write_student(tmp_path / "student.safetensors")
    average = write_student(tmp_path / "student_ema.safetensors", seed=1)
    lines: list[str] = []
    result = proteus.export(tmp_path / "student.safetensors", tmp_path / "out", ["timm"], report=lines.append)
    assert result.path == tmp_path / "out"
    torch.testing.assert_close(load_file(tmp_path / "out/model.safetensors"), student.timm_state())
    torch.testing.assert_close(load_file(tmp_path / "out/ema/model.safetensors"), average.timm_state())
    card = (tmp_path / "out/README.md").read_text()
    assert "| teacher | a teacher |" in card
    assert "| iterations | 7 |" in card
    assert "hold the trained weights; `ema/` holds the exponential moving average" in card
    assert [line.partition(":")[0] for line in lines] == ["timm", "ema", "card"]
    images = torch.randn(2, 3, 56, 56)
    loaded: Any = proteus.load_backbone(tmp_path / "out")
    torch.testing.assert_close(loaded(images).patches, student(images).patches)


def test_an_average_of_other_weights_is_left_out(tmp_path: Path) -> None:
    student = write_student(tmp_path / "student.safetensors")
    average = write_student(tmp_path / "other.safetensors", seed=1).timm_state()
    for weights, exported in ((student.timm_state(), True), (average, False)):
        about = {"weights": "ema", "average_of": student_digest(weights)}
        facts = vars(read_description(tmp_path / "student.safetensors"))
        export_backbone(average, tmp_path / "student_ema.safetensors", {**facts, **about})
        lines: list[str] = []
        out = tmp_path / f"out {exported}"
        # The position embedding is resampled, and the average is still this student's.
        proteus.export(tmp_path / "student.safetensors", out, ["timm"], img_size=84, report=lines.append)
        assert (out / "ema").exists() == exported
        assert any("student_ema.safetensors is the average of other weights" in line for line in lines) != exported


def test_the_average_alone(tmp_path: Path) -> None:
    write_student(tmp_path / "student_ema.safetensors")
    proteus.export(tmp_path / "student_ema.safetensors", tmp_path / "out", ["timm"], report=quiet)
    assert not (tmp_path / "out/ema").exists()
    proteus.export(tmp_path / "out", tmp_path / "out", ["timm"], report=quiet)
    assert "All files hold the exponential moving average" in (tmp_path / "out/README.md").read_text()


def test_a_training_checkpoint_with_an_average(tmp_path: Path) -> None:
    states = []
    for seed in (0, 1):
        student = write_student(tmp_path / "unused.safetensors", seed, embed_dim=192)
        states.append({f"student.{key}": value for key, value in student.state_dict().items()})
    # MMEngine's EMAHook stores the average under state_dict.
    torch.save({"state_dict": states[1], "ema_state_dict": states[0]}, tmp_path / "iter_7.pth")
    proteus.export(tmp_path / "iter_7.pth", tmp_path / "out", ["timm"], report=quiet)
    for folder, state in (("out", states[0]), ("out/ema", states[1])):
        found = load_file(tmp_path / folder / "model.safetensors")
        torch.testing.assert_close(found, {key.removeprefix("student.vit."): value for key, value in state.items()})


def test_a_model_folder_gets_more_formats(tmp_path: Path) -> None:
    write_student(tmp_path / "student.safetensors")
    write_student(tmp_path / "student_ema.safetensors", seed=1)
    out = tmp_path / "out"
    proteus.export(tmp_path / "student.safetensors", out, ["timm"], facts={"data": "photos"}, report=quiet)
    before = load_file(out / "ema/model.safetensors")
    proteus.export(out, out, ["hf"], report=quiet)
    assert list(json.loads((out / "facts.json").read_text())["written"]) == ["timm", "hf"]
    torch.testing.assert_close(load_file(out / "ema/model.safetensors"), before, atol=0, rtol=0)
    assert "photos" in (out / "README.md").read_text()


def test_a_model_folder_keeps_how_images_are_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--student"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    folder = repository / "snapshots/abc"
    model = ViT("tiny", **SIZES).eval().requires_grad_(False)
    facts: dict[str, Any] = {"interpolation": "bilinear", "crop_pct": 0.84, "crop_mode": "squash"}
    write_model_folder(ExportModel(model, "x", 56, (0.5,) * 3, (0.2,) * 3, **facts), folder, ["timm"], report=quiet)
    before = json.loads((folder / "preprocessor.json").read_text())
    assert before["resize"] == [66, 66]  # floor(56 / 0.84), as in timm
    for source in (folder, folder / "model.safetensors", "hf-hub:me/student"):
        for out in (folder, tmp_path / "other"):
            proteus.export(source, out, ["timm"], report=quiet)
            assert json.loads((out / "preprocessor.json").read_text()) == before, source


def test_images_of_any_size_for_a_cnn(tmp_path: Path) -> None:
    result = proteus.export(
        "random:timm/test_resnet", tmp_path, ["program"], img_size=64, dynamic_size=True, report=quiet
    )
    assert result.written == {"program": "images of any size"}


def test_a_cnn_keeps_the_size_in_its_description(tmp_path: Path) -> None:
    cnn = TimmBackbone("test_resnet", img_size=56)
    facts = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "architecture": "test_resnet", "arguments": {}}
    for size, about in ((56, {**facts, "img_size": 56}), (224, facts)):
        out = tmp_path / str(size)
        export_backbone(cnn.timm_state(), tmp_path / "student.safetensors", about)
        proteus.export(tmp_path / "student.safetensors", out, ["timm"], report=quiet)
        assert f"| {size} x {size} px" in (out / "README.md").read_text()
        assert json.loads((out / "config.json").read_text())["pretrained_cfg"]["input_size"] == [3, size, size]
        assert json.loads((out / "preprocessor.json").read_text())["size"] == [size, size]
        for path in (out, out / "model.safetensors"):
            assert proteus.load_backbone(path).img_size == size


def test_another_image_size(tmp_path: Path) -> None:
    write_student(tmp_path / "student.safetensors")
    proteus.export(tmp_path / "student.safetensors", tmp_path / "out", ["timm"], img_size=84, report=quiet)
    assert "All files hold the trained weights." in (tmp_path / "out/README.md").read_text()
    assert load_file(tmp_path / "out/model.safetensors")["pos_embed"].shape == (1, 6 * 6 + 1, 48)
    assert json.loads((tmp_path / "out/preprocessor.json").read_text())["size"] == [84, 84]


def test_a_name_of_timm(tmp_path: Path) -> None:
    proteus.export("random:resnet10t", tmp_path, ["timm"], img_size=64, report=quiet)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnet10t"


def test_a_tag_of_timm_has_its_own_interpolation_and_crop() -> None:
    assert input_facts(None, "timm/resnet50.tv_in1k") == ("bilinear", 0.875, "center")
    assert input_facts(None, "resnet50.a1_in1k") == ("bicubic", 0.95, "center")
    assert input_facts(None, "vit_base_patch16_clip_384.laion2b_ft_in1k") == ("bicubic", 1.0, "squash")
    assert input_facts(None, "mmpretrain/ResNet") == ("bicubic", 0.875, "center")


def test_a_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_student(tmp_path / "student.safetensors")
    lines: list[str] = []
    proteus.export(
        tmp_path / "student.safetensors", tmp_path / "out", ["onnx"], benchmark=True, device="cpu", report=lines.append
    )
    rows = json.loads((tmp_path / "out/facts.json").read_text())["benchmark"]["rows"]
    assert set(rows) == {"torch", "ONNX Runtime"}
    assert all(latency > 0 and rate > 0 for latency, rate in rows.values())
    assert "| torch |" in "\n".join(lines)
    assert "## Latency" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    ("source", "words"), [("dinov2_vitb15", "nearest: "), ("missing.safetensors", "weights not found")]
)
def test_a_source_that_cannot_be_loaded(source: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        proteus.export(source, tmp_path / "out", report=quiet)
    assert not (tmp_path / "out").exists()


def test_an_unknown_fact(tmp_path: Path) -> None:
    write_student(tmp_path / "student.safetensors")
    facts: Any = {"tacher": "x"}
    with pytest.raises(ValueError, match=r"facts\['tacher'\]: choose from: title, teacher"):
        proteus.export(tmp_path / "student.safetensors", tmp_path / "out", facts=facts, report=quiet)
