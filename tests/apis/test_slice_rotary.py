"""A slice of a tiny DINOv3 by the command line."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from runs import write_described, write_images

import proteus
from proteus.cli.slice import main, parse_args
from proteus.models import TimmBackbone
from proteus.structures import UserError

pytestmark = pytest.mark.usefixtures("without_graphs")
STUDENT = "timm/vit_tiny_patch16_dinov3_qkvb"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the weights of a teacher."""
    folder = tmp_path_factory.mktemp("slice_rotary")
    write_images(folder / "photos", 24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = TimmBackbone("vit_small_patch16_dinov3", img_size=32, depth=2, init_values=0.5)
    write_described(folder / "teacher.safetensors", teacher, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2])
    return folder


@pytest.fixture(scope="module")
def printed(place: Path) -> str:
    """What the command printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        command = ["--teacher", str(place / "teacher.safetensors"), "--student", STUDENT]
        command += ["--data", str(place / "photos"), "--out", str(place / "out"), "--img-size", "32", "--views", "12"]
        assert main(parse_args(command)) == 0
    return output.getvalue()


def test_errors_and_agreement_are_printed(printed: str) -> None:
    errors = [float(line.split()[1]) for line in printed.splitlines() if line.strip().startswith(("1  ", "2  "))]
    assert len(errors) == 2
    assert all(0 <= error < 0.2 for error in errors)
    assert "agreement with the teacher, held-out" in printed


def test_the_card_and_the_config_say_what_it_is(printed: str, place: Path) -> None:
    card = (place / "out/README.md").read_text()
    assert f"--student {STUDENT}" in card
    assert "vit_tiny_patch16_dinov3_qkvb sliced from teacher.safetensors" in card
    config = json.loads((place / "out/config.json").read_text())
    assert config["architecture"] == "vit_tiny_patch16_dinov3_qkvb"
    assert config["pretrained_cfg"]["mean"] == [0.5, 0.4, 0.3]


def test_the_folder_loads_here_and_in_timm(printed: str, place: Path) -> None:
    backbone: Any = proteus.load_backbone(place / "out")
    assert backbone.model.blocks[1].gamma_1.eq(1).all()  # the teacher's are in the weights
    assert backbone.model.reg_token.shape == (1, 4, 192)
    images = torch.randn(2, 3, 32, 32)
    model = timm.create_model(f"local-dir:{place / 'out'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(images).patches, model.forward_features(images)[:, 5:])


def test_the_student_to_take_is_named(place: Path, tmp_path: Path) -> None:
    teacher, data = str(place / "teacher.safetensors"), place / "photos"
    words = r"--student vit_small: .* rotary in the teacher and learnt in the student; write --student (\S+), or type="
    with pytest.raises(UserError, match=words) as caught:
        proteus.slice(teacher, "vit_small", data=data, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "--student timm/vit_small_patch16_dinov3_qkvb," in str(caught.value)
