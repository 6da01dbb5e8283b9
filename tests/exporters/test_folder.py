"""One model folder of a ViT with LayerScale: every tool that the card names opens it, by the code in the card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from proteus.exporters import FORMATS, ExportModel, ModelFolder, write_model_folder
from proteus.exporters.benchmark import measure
from proteus.structures import FullDiskError, LockedError, UserError
from proteus.utils.lock import exclusive

Models = Callable[[str], ExportModel]
FACTS: dict[str, Any] = {
    "teacher": "a teacher | with a bar",
    "teacher_licence": "CC-BY-NC 4.0",
    "data": "two folders",
    "images": 1234,
    "metrics": {"k-NN, top-1 (%)": 12.345},
    "command": "proteus distill --teacher x",
    "weights": "plain",
}
NEEDS = {"transformers": "transformers", "mmpretrain": "mmpretrain", "mmseg": "mmseg", "ONNX": "onnxruntime"}


@pytest.fixture(scope="module")
def folder(models: Models, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    out = tmp_path_factory.mktemp("models") / "vit"
    return write_model_folder(models("layer scale"), out, facts=FACTS, report=lambda line: None)


def blocks(folder: Path) -> dict[str, str]:
    text = (folder / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"\n(\w[^\n]*):\n\n```python\n(.*?)\n```", text, re.DOTALL))


@pytest.fixture
def images(folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Run in a folder with a photo and links to the model; return the images that the card prepares."""
    for path in folder.path.iterdir():
        (tmp_path / path.name).symlink_to(path)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (90, 120, 3), dtype=torch.uint8, generator=generator)
    Image.fromarray(pixels.numpy()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, Any] = {}
    exec(blocks(folder.path)["Prepare images"], names)
    return names["images"]


def test_every_format_is_written(folder: ModelFolder) -> None:
    assert list(folder.written) == list(FORMATS)
    assert folder.skipped == {}
    assert folder.written["hf"] == "Dinov2Model"
    assert folder.written["openmmlab"] == "mmpretrain.VisionTransformer"
    assert 0 <= max(folder.differences.values()) < 1e-4
    assert set(folder.differences) == {"timm", "onnx", "program"}


def test_the_card_prepares_images_as_preprocessor_json_says(folder: ModelFolder, images: torch.Tensor) -> None:
    about = json.loads((folder.path / "preprocessor.json").read_text())
    assert images.shape == (1, 3, *about["size"])
    mean, std = (torch.tensor(about[key])[:, None, None] for key in ("mean", "std"))
    pixels = images[0] * std + mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert about["resize_shorter_side"] == 64


@pytest.mark.parametrize(
    "tool", ["timm", "transformers", "mmpretrain", "mmseg", "ONNX Runtime", "torch.export", "Proteus"]
)
def test_tools_open_the_folder_with_equal_features(
    tool: str, folder: ModelFolder, images: torch.Tensor, models: Models
) -> None:
    found = {heading: code for heading, code in blocks(folder.path).items() if heading.startswith(tool)}
    assert len(found) == 1
    for start, package in NEEDS.items():
        if tool.startswith(start):
            pytest.importorskip(package)
    names: dict[str, Any] = {"images": images}
    exec(next(iter(found.values())), names)
    wanted = models("layer scale").features(images)
    torch.testing.assert_close(torch.as_tensor(names["cls"]), wanted.cls, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.as_tensor(names["patches"]), wanted.patches, atol=1e-4, rtol=1e-4)


def test_mmseg_reads_maps_for_dense_heads(folder: ModelFolder, images: torch.Tensor, models: Models) -> None:
    registry = pytest.importorskip("mmseg.registry")
    pytest.importorskip("mmpretrain.models")
    from mmengine.config import Config

    backbone = registry.MODELS.build(Config.fromfile(folder.path / "openmmlab/backbone.py").dense_backbone)
    backbone.init_weights()
    backbone.eval()
    with torch.inference_mode():
        (maps,) = backbone(images)
    torch.testing.assert_close(maps, models("layer scale").features(images).maps, atol=1e-4, rtol=1e-4)


def test_the_card_states_what_is_known_and_nothing_else(folder: ModelFolder) -> None:
    text = (folder.path / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-nc-4.0"
    assert "knowledge-distillation" in front["tags"]
    assert "base_model" not in front
    assert "| teacher | a teacher \\| with a bar |" in text
    assert "two folders, 1,234 images" in text
    assert "| k-NN, top-1 (%) | 12.35 |" in text or "| k-NN, top-1 (%) | 12.34 |" in text
    assert "forbids commercial use" in text
    assert "proteus distill --teacher x" in text
    for absent in ("objectives", "iterations", "Latency", "ema/", "| None"):
        assert absent not in text


def test_formats_are_added_to_a_folder_of_the_same_weights(models: Models, tmp_path: Path) -> None:
    model, lines = models("layer scale"), []
    (tmp_path / "config.py").write_text("teacher = 1\n")  # of the run
    write_model_folder(model, tmp_path, ["timm"], facts=FACTS, report=lines.append)
    write_model_folder(model, tmp_path, ["openmmlab"], report=lines.append)
    content = json.loads((tmp_path / "facts.json").read_text())
    assert list(content["written"]) == ["timm", "openmmlab"]
    assert "two folders" in (tmp_path / "README.md").read_text()
    assert len(lines) == 4
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "config.py").read_text() == "teacher = 1\n"


def test_a_folder_of_other_weights_is_refused_unless_overwritten(models: Models, tmp_path: Path) -> None:
    model = models("layer scale")
    write_model_folder(model, tmp_path, ["timm", "openmmlab"], ema=model, report=str)
    (tmp_path / "openmmlab/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds the exported files of other weights; name another folder"):
        write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    write_model_folder(models("plain"), tmp_path, ["timm"], overwrite=True, report=str)
    assert [path.name for path in (tmp_path / "openmmlab").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "ema").exists()
    assert "ema/" not in (tmp_path / "README.md").read_text()


def test_overwriting_keeps_the_files_of_the_same_weights(models: Models, tmp_path: Path) -> None:
    write_model_folder(models("layer scale"), tmp_path, ["timm", "openmmlab"], facts=FACTS, report=str)
    write_model_folder(models("layer scale"), tmp_path, ["openmmlab"], overwrite=True, report=str)
    assert (tmp_path / "model.safetensors").is_file()
    assert list(json.loads((tmp_path / "facts.json").read_text())["written"]) == ["timm", "openmmlab"]
    assert "two folders" in (tmp_path / "README.md").read_text()


def test_other_weights_stay_if_overwriting_fails(models: Models, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    write_model_folder(models("layer scale"), tmp_path, ["timm", "openmmlab"], report=str)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".export.lock"}
    with pytest.raises(UserError, match="opset 3"):
        write_model_folder(models("plain"), tmp_path, ["timm", "onnx"], opset=3, overwrite=True, report=str)
    assert {path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".export.lock"} == set(before)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_overwriting_never_removes_the_source(damage: str, models: Models, tmp_path: Path) -> None:
    write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    (tmp_path / "facts.json").unlink()
    if damage == "damaged":
        (tmp_path / "facts.json").write_text("{")
    for source in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(UserError, match=r"would remove .*, the source; name another folder, or add timm to"):
            write_model_folder(models("plain"), tmp_path, ["openmmlab"], overwrite=True, source=source, report=str)
    assert (tmp_path / "model.safetensors").is_file()
    write_model_folder(models("plain"), tmp_path, ["timm", "openmmlab"], overwrite=True, source=tmp_path, report=str)
    assert (tmp_path / "openmmlab/backbone.pth").is_file()


def test_files_of_others_are_refused(models: Models, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(UserError, match=r"holds README.md, which this export would replace"):
        write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    assert (tmp_path / "README.md").read_text() == "my project"
    assert not (tmp_path / "model.safetensors").exists()


def test_an_interrupted_export_is_completed(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("proteus.checkpoints.export.save_file", fill)
        with pytest.raises(FullDiskError, match=r"model.safetensors: no space left"):
            write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    assert (tmp_path / "README.md").is_file()


def test_two_exports_to_one_folder(models: Models, tmp_path: Path) -> None:
    with exclusive(tmp_path, "exporting", ".export.lock"), pytest.raises(LockedError, match="in use by exporting"):
        write_model_folder(models("plain"), tmp_path, ["timm"], report=str)


@pytest.mark.parametrize(("formats", "words"), [(["tflite"], "tflite: choose from: timm, hf"), ([], "names none")])
def test_unknown_formats(formats: list[str], words: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        write_model_folder(models("plain"), tmp_path / "out", formats, report=str)
    assert not (tmp_path / "out").exists()


def test_a_format_that_cannot_be_written(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proteus.exporters.folder.FORMATS", ("timm", "openmmlab", "onnx"))
    lines: list[str] = []
    result = write_model_folder(models("wide head"), tmp_path, opset=3, report=lines.append)
    assert "openmmlab: skipped" in "\n".join(lines)
    assert "gives other features" in result.skipped["openmmlab"]
    assert "opset 3" in result.skipped["onnx"]
    assert "Not written: onnx" in (tmp_path / "README.md").read_text()
    with pytest.raises(UserError, match=r"--formats openmmlab: .*gives other features"):
        write_model_folder(models("wide head"), tmp_path, ["openmmlab"], report=str)


def test_a_benchmark_opens_no_file_that_was_there_before(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a ``model.pt2`` of somebody else's can run code."""
    model = models("layer scale")
    write_model_folder(model, tmp_path, ["timm"], report=str)
    for name in ("model.pt2", "model.onnx"):
        (tmp_path / name).write_bytes(b"downloaded")
    opened: list[Any] = []
    monkeypatch.setattr(torch.export, "load", opened.append)
    write_model_folder(model, tmp_path, ["timm"], benchmark=partial(measure, model), report=str)
    assert set(json.loads((tmp_path / "facts.json").read_text())["benchmark"]["rows"]) == {"torch"}
    assert not opened


def test_an_average_is_offered(models: Models, tmp_path: Path) -> None:
    import timm

    model = models("layer scale")
    average = model.with_backbone(models("plain").backbone)
    facts = {"ema_metrics": {"k-NN": 1.0}}
    write_model_folder(model, tmp_path, ["timm"], ema=average, facts=facts, report=str)
    opened = timm.create_model(f"local-dir:{tmp_path / 'ema'}", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(opened(model.images(1)), average.features(model.images(1)).cls)
    assert "`ema/` holds the exponential moving average" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("kind", ["registers", "clip", "clip with layer scale", "cnn", "wide head", "windows", "guest"])
def test_the_code_in_the_card_of_other_models(
    kind: str, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("transformers", "mmpretrain", "mmseg"):
        pytest.importorskip(package)
    if kind == "guest":
        from proteus.models.backbones import build_backbone

        backbone = build_backbone({"type": "mmpretrain.MobileNetV2", "widen_factor": 0.25}).eval().requires_grad_(False)
        model = ExportModel(backbone, "guest", 64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    else:
        model = models(kind)
    monkeypatch.setattr("proteus.exporters.folder.FORMATS", ("timm", "hf", "openmmlab"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    folder = write_model_folder(model, tmp_path, report=str)
    images = model.images(2)
    wanted = model.features(images)
    found = blocks(tmp_path)
    assert len(found) == 2 + len(folder.written) + ("openmmlab" in folder.written)
    for heading, code in found.items():
        if heading != "Prepare images":
            names: dict[str, Any] = {"images": images}
            exec(code, names)
            torch.testing.assert_close(names["cls"], wanted.cls, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(names["patches"], wanted.patches, atol=1e-4, rtol=1e-4)


def test_damaged_facts(models: Models, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text('{"written": []}')
    with pytest.raises(UserError, match=r"facts.json is not a file that Proteus wrote; remove it"):
        write_model_folder(models("plain"), tmp_path, ["timm"], report=str)
    write_model_folder(models("plain"), tmp_path, ["timm"], overwrite=True, report=str)
