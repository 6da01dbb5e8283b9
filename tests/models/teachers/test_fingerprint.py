from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import write_teacher

from proteus.models import Teacher
from proteus.models.teachers.fingerprint import teacher_fingerprint
from proteus.utils.digest import weights_digest


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("weights") / "teacher.safetensors")


def config(weights: Path, **more: Any) -> dict[str, Any]:
    sizes = {"arch": "tiny", "img_size": 56, "embed_dim": 64, "depth": 2, "num_heads": 4}
    return {"backbone": {"type": "proteus.ViT", "checkpoint": str(weights), **sizes}, **more}


def identity(config: dict[str, Any]) -> dict[str, Any]:
    return teacher_fingerprint(Teacher(**config), {"type": "Teacher", **config})


def changed(one: dict[str, Any], two: dict[str, Any]) -> set[str]:
    first, second = identity(one), identity(two)
    return {key for key in first if first[key] != second[key]}


def test_the_place_of_the_weights_does_not_count(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other.safetensors"
    copy.write_bytes(weights.read_bytes())
    assert changed(config(weights), config(copy)) == set()
    assert changed(config(weights), config(weights, dtype="float32", mean=(0.485, 0.456, 0.406))) == set()


def test_what_counts(weights: Path, tmp_path: Path) -> None:
    first = config(weights)
    assert changed(first, config(weights, mean=(0.5, 0.5, 0.5))) == {"mean"}
    assert changed(first, config(weights, std=(0.5, 0.5, 0.5))) == {"std"}
    assert changed(first, config(weights, img_size=70)) == {"img_size"}
    assert changed(first, config(weights, dtype="bfloat16")) == {"dtype", "weights"}


def test_one_changed_number_changes_the_digest(weights: Path) -> None:
    teacher = Teacher(**config(weights))
    before = weights_digest(teacher.backbone.state_dict())
    assert before == weights_digest(Teacher(**config(weights)).backbone.state_dict())
    with torch.no_grad():
        next(iter(teacher.backbone.parameters())).flatten()[0] += 1e-3
    assert weights_digest(teacher.backbone.state_dict()) != before
