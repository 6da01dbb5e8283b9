"""A real runner of the small recipe, not yet run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.runner import Runner
from runs import write_config, write_images, write_teacher

from proteus.apis import load_config
from proteus.apis.training import build_runner


@pytest.fixture
def make_runner(tmp_path: Path) -> Callable[..., Runner]:
    config = write_config(
        tmp_path, write_images(tmp_path / "images", 16), write_teacher(tmp_path / "teacher.safetensors")
    )

    def make(name: str = "run", hooks: list[dict[str, Any]] | None = None, **overrides: Any) -> Runner:
        cfg = load_config(config, {key.replace("__", "."): value for key, value in overrides.items()})
        cfg.work_dir = str(tmp_path / name)
        cfg.custom_hooks = hooks or []
        cfg.visualizer = None
        cfg.experiment_name = f"{tmp_path.name}-{name}"
        return build_runner(cfg)

    return make


@pytest.fixture
def multi_student(make_runner: Callable[..., Runner], tmp_path: Path) -> dict[str, Any]:
    """The small recipe's model with two students, to stand in its place."""
    alone = load_config(tmp_path / "small.py").model.to_dict()
    students = {
        name: {"student": {**alone["student"], "embed_dim": width}, "objectives": alone["objectives"]}
        for name, width in (("tiny", 24), ("small", 48))
    }
    return {"_delete_": True, "type": "MultiStudentDistiller", "teacher": alone["teacher"], "students": students}


@pytest.fixture
def multi_teacher(make_runner: Callable[..., Runner], tmp_path: Path) -> dict[str, Any]:
    """The small recipe's model with a second teacher, and both standardised, to stand in its place."""
    alone = load_config(tmp_path / "small.py").model.to_dict()
    sizes = {"img_size": 64, "patch_size": 16, "depth": 1, "embed_dim": 12, "num_heads": 3}
    file = str(write_teacher(tmp_path / "other.safetensors", **sizes))
    other = {"type": "Teacher", "backbone": {"type": "ViT", "arch": "tiny", **sizes, "checkpoint": file}}
    other["img_size"] = 64
    shared = {"objectives": alone["objectives"], "standardization": {"type": "PHIStandardization", "images": 8}}
    teachers = {name: {"teacher": teacher, **shared} for name, teacher in (("one", alone["teacher"]), ("two", other))}
    return {"_delete_": True, "type": "MultiTeacherDistiller", "student": alone["student"], "teachers": teachers}
