from __future__ import annotations

from pathlib import Path

import pytest
import torch

from proteus.checkpoints import export_backbone
from proteus.cli import main
from proteus.models import ViT


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    student = ViT("tiny", img_size=28, embed_dim=48, depth=1, num_heads=3)
    arguments = dict(student.timm_args)
    facts = {"architecture": arguments.pop("model_name"), "arguments": arguments, "mean": [0.5] * 3, "std": [0.5] * 3}
    return export_backbone(student.timm_state(), tmp_path_factory.mktemp("student") / "student.safetensors", facts)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main("export", [str(argument) for argument in arguments])
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def test_formats_with_commas_or_spaces(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(weights, "--out", tmp_path, "--formats", "timm,openmmlab", "hf") == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == ["timm", "hf", "openmmlab", "card"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--formats", "tflite"], "--formats tflite: choose from: timm, hf, openmmlab, onnx, program"),
        (["--formats", "onnx", "--opset", "3"], "--formats onnx: opset 3: torch's exporter takes 17 to 20"),
        (["--opset", "-1"], "expected a positive integer"),
        (["--img-size", "30"], "img_size=30 is not a multiple of patch_size=14"),
    ],
)
def test_mistakes(
    arguments: list[str], words: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(weights, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_file_as_folder(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert run(weights, "--out", tmp_path / "out") == 2
    assert "is a file; name a folder" in capsys.readouterr().err
