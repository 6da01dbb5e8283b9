import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from proteus.checkpoints import export_backbone
from proteus.models import ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 3}


@pytest.mark.parametrize(
    "options",
    [{"arch": "tiny"}, {"arch": "small", "reg_tokens": 4}, {"arch": "giant"}, {"arch": "tiny", "init_values": None}],
    ids=["plain", "registers", "swiglu", "no layer scale"],
)
def test_an_export_loads_into_timm_and_back_with_equal_features(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = ViT(mask_token=True, drop_path_rate=0.1, **NARROW, **options).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    path = export_backbone(model.timm_state(), tmp_path / "new" / "folder" / "student.safetensors", model.timm_args)
    assert path == tmp_path / "new" / "folder" / "student.safetensors"
    images = torch.randn(2, 3, 56, 56)
    expected = model(images)

    theirs = timm.create_model(**model.timm_args, num_classes=0).eval()
    theirs.load_state_dict(load_file(path), strict=True)
    tokens = theirs.forward_features(images)
    torch.testing.assert_close(tokens[:, 0], expected.cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens[:, theirs.num_prefix_tokens :], expected.patches, atol=1e-5, rtol=0)

    ours = ViT(checkpoint=path, **NARROW, **options).eval()
    assert torch.equal(ours(images).patches, expected.patches)


def test_the_description_rebuilds_the_model(tmp_path: Path) -> None:
    model = ViT("tiny", **NARROW)
    description = {"arguments": model.timm_args, "mean": (0.5, 0.5, 0.5), "teacher": "DINOv2, größer", "iterations": 7}
    path = export_backbone(model.timm_state(), tmp_path / "student.safetensors", description)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"  # transformers refuses files without it
    found = json.loads(metadata["proteus"])
    assert found == {**description, "mean": [0.5, 0.5, 0.5]}
    timm.create_model(**found["arguments"], num_classes=0).load_state_dict(load_file(path), strict=True)


def test_any_strides_and_gradients_are_written_as_values(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    path = export_backbone({"a": weight.t(), "b": weight}, tmp_path / "odd.safetensors", {})
    found = load_file(path)
    assert found["a"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert torch.equal(found["b"], weight)


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    export_backbone({"a": torch.zeros(2)}, path, {})
    with pytest.raises(TypeError):
        export_backbone({"a": torch.ones(2)}, path, {"teacher": object()})
    assert load_file(path)["a"].tolist() == [0.0, 0.0]
    export_backbone({"a": torch.ones(2)}, path, {})
    assert load_file(path)["a"].tolist() == [1.0, 1.0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["student.safetensors"]


def test_the_readmes_snippet_takes_other_sizes(tmp_path: Path) -> None:
    model = ViT("small", **NARROW).eval()
    arguments = dict(model.timm_args)
    about = {"architecture": arguments.pop("model_name"), "arguments": arguments}
    path = export_backbone(model.timm_state(), tmp_path / "student.safetensors", about)
    with safe_open(path, "pt") as file:
        found = json.loads(file.metadata()["proteus"])
    theirs = timm.create_model(found["architecture"], num_classes=0, **found["arguments"], dynamic_img_size=True).eval()
    theirs.load_state_dict(load_file(path))
    with torch.inference_mode():
        assert theirs.forward_features(torch.randn(1, 3, 224, 224)).shape == (1, 257, 48)
        same = torch.randn(1, 3, 56, 56)
        torch.testing.assert_close(theirs.forward_features(same)[:, 0], model(same).cls, atol=1e-5, rtol=0)
