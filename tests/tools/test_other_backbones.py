"""Students of other families and toolboxes, through the tools; and the tools for weight files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from runs import tool, trained
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

CONVNEXT = 'dict(_delete_=True, type="TimmBackbone", arch="test_convnext", img_size=56)'
RESNET = (
    'dict(_delete_=True, type="mmpretrain.ResNet", depth=18, base_channels=8, stem_channels=8, expansion=1,'
    ' init_cfg=dict(type="Pretrained", checkpoint="{weights}"))'
)


def write_config(config: Path, folder: Path, student: str, objectives: str = "feature=None, patch=None") -> Path:
    path = folder / "other.py"
    path.write_text(f'_base_ = "{config}"\nmodel = dict(student={student}, objectives=dict({objectives}))\n')
    return path


def exported(folder: Path) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    with safe_open(folder / "student.safetensors", "pt") as file:
        return json.loads(file.metadata()["proteus"]), load_file(folder / "student.safetensors")


def test_a_convnext_trains_and_timm_loads_it(config: Path, tmp_path: Path) -> None:
    path = write_config(config, tmp_path, CONVNEXT)
    assert "every part was built" in trained("train.py", path, "--check")
    trained("train.py", path, "--work-dir", tmp_path / "run")
    description, state = exported(tmp_path / "run")
    model = timm.create_model(description["architecture"], num_classes=0, **description["arguments"])  # type: ignore[arg-type]
    model.load_state_dict(state)


def test_a_resnet_of_mmpretrain_trains_from_its_weights(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    from proteus.models import build_backbone

    guest = build_backbone(
        dict(type="mmpretrain.ResNet", depth=18, base_channels=8, stem_channels=8, expansion=1)
    ).guest
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in guest.state_dict().items()}}, tmp_path / "resnet.pth")
    path = write_config(config, tmp_path, RESNET.format(weights=tmp_path / "resnet.pth"))
    assert "every part was built" in trained("train.py", path, "--check")
    output = trained("train.py", path, "--work-dir", tmp_path / "run")
    assert "exported the student's backbone for mmpretrain:" in output
    description, state = exported(tmp_path / "run")
    assert description["architecture"] == "mmpretrain.ResNet"
    guest.load_state_dict(state)


def test_a_check_reports_how_grids_are_matched_and_weights_that_do_not_fit(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    student = RESNET.format(weights=tmp_path / "other.pth")
    done = tool("train.py", write_config(config, tmp_path, student), "--check")
    assert done.returncode == 2
    assert "other.pth does not fit the model" in done.stderr
    done = tool("train.py", write_config(config, tmp_path, CONVNEXT, "patch=None"), "--check")
    assert done.returncode == 0, done.stderr
    assert "compared on 1x1 patches (match='auto', mode='area')" in done.stdout


def test_weight_files_are_converted_and_inspected(place: Path, tmp_path: Path) -> None:
    teacher = place / "teacher.safetensors"
    output = trained("convert_checkpoint.py", teacher, tmp_path / "hf.safetensors", "--to", "hf")
    assert output.startswith(f"{tmp_path}/hf.safetensors: DINOv2 ViT-64/14 under the names of hf\nmodel: transformers.")
    trained("convert_checkpoint.py", tmp_path / "hf.safetensors", tmp_path / "back.safetensors", "--to", "timm")
    found, expected = load_file(tmp_path / "back.safetensors"), load_file(teacher)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    said = trained("inspect_checkpoint.py", tmp_path / "hf.safetensors")
    assert "DINOv2 ViT-64/14" in said
    assert "Hugging Face" in said


def test_what_cannot_be_converted_is_an_error_without_traceback(place: Path, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>")
    for name, arguments in (
        ("convert_checkpoint.py", [tmp_path / "out.pth", "--to", "hf"]),
        ("inspect_checkpoint.py", []),
    ):
        done = tool(name, tmp_path / "page.pth", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert "not a weight file" in done.stderr
