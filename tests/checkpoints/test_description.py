import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.description import Description, check_description, read_description

GOOD = {"architecture": "vit_tiny_patch16_224", "arguments": {"depth": 2}, "mean": [0.5] * 3, "std": [0.25, 1, 2]}


def write(path: Path, text: str | None) -> Path:
    save_file({"w": torch.zeros(1)}, path, None if text is None else {"proteus": text})
    return path


def test_a_description_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = {**GOOD, "teacher": "DINOv2", "iterations": 10}
    description = read_description(write(tmp_path / "a.safetensors", json.dumps(known)))
    assert description == Description(
        "vit_tiny_patch16_224", {"depth": 2}, (0.5, 0.5, 0.5), (0.25, 1.0, 2.0), "DINOv2", 10
    )
    assert check_description(json.loads(json.dumps(description.to_json())), "a") == description


def test_files_without_a_description(tmp_path: Path) -> None:
    assert read_description(write(tmp_path / "a.safetensors", None)) is None
    assert read_description(Path("a.pth")) is None
    assert check_description({}, "a") == Description()
    assert Description().to_json() == {}
    assert Description("resnet18").to_json() == {"architecture": "resnet18", "arguments": {}}


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("resnet18", "resnet18"),
        ("resnet18.a1_in1k", "resnet18"),  # the tag names pretrained weights
        ("mmpretrain.ResNet", "mmpretrain.ResNet"),
        ("mmseg.MAE", "mmseg.MAE"),
    ],
)
def test_architectures(name: str, architecture: str) -> None:
    assert check_description({**GOOD, "architecture": name}, "a").architecture == architecture


@pytest.mark.parametrize("name", ["os.system", "mmdet.ResNet", "mmpretrain.", "mmseg.a.b", "hf_hub:x/y", "../x", 3, ""])
def test_other_architectures_are_refused(name: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_description({**GOOD, "architecture": name}, "a")
    assert str(caught.value).startswith(f"a: architecture is {name!r}; expected a model of timm's, or mmpretrain.NAME")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": [0.5, 0.5]}, "a: mean is [0.5, 0.5]; expected three numbers"),
        ({"mean": None}, "a: mean is None; expected three numbers"),
        ({"mean": [True, 0, 0]}, "a: mean is [True, 0, 0]; expected three numbers"),
        ({"std": [1, 1, 0]}, "a: std is (1.0, 1.0, 0.0); expected three numbers above 0"),
        ({"std": [1, 1, float("nan")]}, "a: std is [1, 1, nan]; expected three numbers"),
        ({"iterations": -1}, "a: iterations is -1; expected a whole number"),
        ({"weights": "best"}, "a: weights is 'best'; expected 'plain' or 'ema'"),
        ({"img_size": 0}, "a: img_size is 0; expected an integer from 1 to 4096"),
        ({"iterations": True}, "a: iterations is True; expected a whole number"),
        ({"teacher": 3}, "a: teacher is 3; expected text"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_description({**GOOD, **change}, "a")
    assert str(caught.value) == words


@pytest.mark.parametrize("key", ["arguments", "mean", "std"])
def test_an_architecture_needs_its_arguments_and_statistics(key: str) -> None:
    content = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(CheckpointError, match=f"^a has 'architecture' but no '{key}'; export the weights again"):
        check_description(content, "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[1]", "is a JSON list, not an object"), (" " * 1_000_001, "has 1,000,001 characters")],
)
def test_other_metadata_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", text)
    with pytest.raises(CheckpointError) as caught:
        read_description(path)
    assert str(caught.value).startswith(f"{path}: its description (metadata 'proteus') {words}")


def test_a_title_of_an_earlier_version_is_not_an_architecture() -> None:
    content = {"architecture": "DINOv2 ViT-S/14", "converted_to": "timm", "converted_from": "a.pth"}
    assert check_description(content, "a") == Description(converted_to="timm", converted_from="a.pth")
