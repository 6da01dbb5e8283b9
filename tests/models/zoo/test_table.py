"""``proteus models``."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from proteus.cli import main
from proteus.models.zoo import list_models
from proteus.models.zoo.table import models_table
from proteus.structures import UserError


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_facts_and_weights_on_disk(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/dinov2_vits14_pretrain.pth").touch()
    table = rows(models_table())
    assert list(table) == ["name", *list_models()]
    assert table["name"] == ["parameters", "patch", "size", "width", "licence", "weights"]
    path = "checkpoints/dinov2_vits14_pretrain.pth"
    assert table["dinov2_vits14"] == ["22.1", "M", "14", "518", "384", "Apache-2.0", path]
    assert table["dinov2_vitg14"] == ["1.14", "B", "14", "518", "1536", "Apache-2.0", "absent"]
    assert table["dinov3_convnext_tiny"] == ["27.8", "M", "-", "224", "768", "DINOv3", "License", "absent"]
    assert table["vit_tiny"] == ["5.5", "M", "-", "224", "192", "-", "random"]


def test_words_and_patterns() -> None:
    assert set(rows(models_table("synclr"))) == {"name", "synclr_vitb16", "synclr_vitl14"}
    assert set(rows(models_table("*vitg14*", "teacher"))) == {"name", *list_models("*vitg14*")}
    assert list(rows(models_table("timm/test_vit", "student"))) == ["name", "timm/test_vit"]
    assert models_table("timm/vit*").splitlines()[-1].endswith("a pattern with at most 50 prints the facts")
    with pytest.raises(UserError, match="no model matches 'dinov9'; `proteus models` lists all"):
        models_table("dinov9")


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, status, words in (
        (["packaged", "--role", "teacher"], 0, "MIT"),
        (["packaged", "--role", "student"], 2, "error: no model matches 'packaged'"),
        (["--role", "pupil"], 2, "choose from"),
    ):
        with pytest.raises(SystemExit) as ended:
            main("models", arguments)
        assert ended.value.code == status
        assert words in "".join(capsys.readouterr())
