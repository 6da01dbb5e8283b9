"""Descriptions of teachers that configs inherit from their bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proteus.config.load import read_config
from proteus.models.zoo.known import known_teachers
from proteus.models.zoo.teacher_text import contradiction

RECIPES = sorted((Path(__file__).parents[3] / "configs/proteus").rglob("*.py"))
SMALL = "DINOv2 ViT-S/14 (Meta, Apache-2.0)"
SIGLIP2 = "vit_large_patch16_siglip_256.v2_webli.safetensors"


def one(file: str | None) -> dict[str, Any]:
    return dict(teacher=dict(type="Teacher", backbone=dict(checkpoint=file)))


def test_recipes_say_what_their_teachers_are() -> None:
    for path in RECIPES:
        config = read_config(path)
        assert contradiction(config.default_hooks.export.teacher, config.model) == "", path


def test_released_files_fit_the_titles_of_their_models() -> None:
    for record in known_teachers().values():
        for file in record.files:
            assert contradiction(f"{record.title} ({record.licence})", one(f"checkpoints/{file}")) == ""


@pytest.mark.parametrize("text", ["", "my own model", "none; trained on labels"])
def test_weights_and_texts_that_nobody_knows_are_left(text: str) -> None:
    assert contradiction(text, one("own.pth")) == ""
    assert contradiction(text, dict(teacher=dict(type="NoTeacher"))) == ""


def test_another_released_teacher_is_noticed() -> None:
    found = contradiction(SMALL, one("checkpoints/dinov2_vitb14_pretrain.pth"))
    assert found == (
        "the text does not name DINOv2 ViT-B/14 and names DINOv2 ViT-S/14, but no teacher reads those released weights "
        "(they read model.teacher.backbone.checkpoint='checkpoints/dinov2_vitb14_pretrain.pth'); write "
        "'DINOv2 ViT-B/14 (Meta, Apache-2.0)', since the exported student says it"
    )


@pytest.mark.parametrize("file", ["own.pth", None])
def test_other_weights_than_the_released_ones_are_noticed(file: str | None) -> None:
    found = contradiction(SMALL, one(file))
    assert "the text names DINOv2 ViT-S/14, but no teacher reads those released weights" in found
    assert "; write what the teachers are, since" in found


def test_a_part_of_a_longer_name_does_not_count() -> None:
    assert "names DFN CLIP ViT-B/16, but" in contradiction("DFN CLIP ViT-B/16 (Apple)", one("own.pth"))


def test_each_of_several_teachers_must_be_named() -> None:
    files = dict(dinov2="dinov2_vits14_pretrain.pth", siglip2=SIGLIP2)
    model = dict(teachers={name: one(file) for name, file in files.items()})
    found = contradiction(SMALL, model)
    assert "the text does not name SigLIP2 ViT-L/16 (they read model.teachers.dinov2.teacher.backbone." in found
    both = "DINOv2 ViT-S/14 (Meta, Apache-2.0) and SigLIP2 ViT-L/16 at 256 px (Google, Apache-2.0)"
    assert f"; write {both!r}, since" in found
    assert contradiction(both, model) == ""
    assert "names DINOv2 ViT-S/14" in contradiction(both, dict(teachers={**model["teachers"], "dinov2": None}))
