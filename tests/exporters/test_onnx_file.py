from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from proteus.exporters import ExportError, ExportModel, FormatSkippedError
from proteus.exporters.onnx_file import require, runner, write_onnx

Models = Callable[[str], ExportModel]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime")


def test_names_shapes_and_facts(models: Models, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    assert write_onnx(models("registers"), path, opset=17) < 1e-5
    file = onnx.load(path)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    assert shapes == {"images": ["batch", 3, 56, 56], "cls": ["batch", 48], "patches": ["batch", 16, 48]}
    assert file.opset_import[0].version == 17
    facts = {item.key: json.loads(item.value) for item in file.metadata_props}
    assert facts == {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "img_size": 56}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("kind", ["layer scale", "registers", "cnn"])
def test_any_size(kind: str, models: Models, tmp_path: Path) -> None:
    model, path = models(kind), tmp_path / "model.onnx"
    write_onnx(model, path, dynamic_size=True)
    cls, patches = runner(path)(model.images(2, (84, 112)))
    assert cls.shape[0] == 2
    if kind != "cnn":
        assert patches.shape == (2, 6 * 8, 48)
        other = type(model.backbone)("tiny", img_size=56, embed_dim=48, depth=2, num_heads=3, interpolate_offset=0.0)
        if kind == "layer scale":
            other.vit.load_state_dict(model.state())
            with torch.inference_mode():
                torch.testing.assert_close(other.eval()(model.images(2, (84, 112))).patches, patches, atol=1e-4, rtol=0)


def test_a_model_of_one_size(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"takes images of one size; leave out --dynamic-size"):
        write_onnx(models("windows"), tmp_path / "model.onnx", dynamic_size=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [3, 16, 99])
def test_an_opset_that_the_exporter_refuses(opset: int, models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"opset {opset}: torch's exporter takes 17 to 20"):
        write_onnx(models("layer scale"), tmp_path / "model.onnx", opset=opset)


def test_a_missing_package() -> None:
    with pytest.raises(FormatSkippedError, match=r"no_such_package not installed; pip install no_such_package"):
        require("onnx", "no_such_package")


def test_weights_that_do_not_fit_in_one_file(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proteus.exporters.onnx_file._LARGEST_FILE", 1000)
    with pytest.raises(FormatSkippedError, match="do not fit in one ONNX file"):
        write_onnx(models("layer scale"), tmp_path / "model.onnx")
