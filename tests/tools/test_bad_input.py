"""Mistakes of a user are reported in one sentence before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import log_lines, options, tool, write_teacher

pytestmark = pytest.mark.slow

# Overrides, and what the message must say: the key, what was found, what to write instead.
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "misspelt override": ({"model.objectivs.token.weight": 1}, ("model.objectivs", "'objectives'")),
    "no proxy set": (
        {"train_dataloader.dataset.data_root": "{tmp}/nowhere"},
        ("train_dataloader.dataset.data_root", "{tmp}/nowhere", "--cfg-options"),
    ),
    "empty proxy set": (
        {"train_dataloader.dataset.data_root": "{tmp}/empty"},
        ("data_root", "no images in {tmp}/empty", ".jpg"),
    ),
    "no teacher": (
        {"model.teacher.backbone.checkpoint": "{tmp}/teacher.pth"},
        ("model.teacher.backbone.checkpoint", "{tmp}/teacher.pth", "--cfg-options"),
    ),
    "no checkpoint to start from": (
        {"load_from": "{tmp}/iter_1.pth"},
        ("load_from", "{tmp}/iter_1.pth", "--cfg-options"),
    ),
    "teacher of another width": (
        {"model.teacher.backbone.checkpoint": "{tmp}/wide.safetensors"},
        ("model.teacher.backbone.checkpoint", "wide.safetensors", "width 96", "width 64"),
    ),
    "teacher with code": (
        {"model.teacher.backbone.checkpoint": "{tmp}/trap.pth"},
        ("model.teacher.backbone.checkpoint", "trap.pth", "not opened", "safetensors.torch.save_file"),
    ),
    "grids that do not meet": (
        {"model.teacher.img_size": 70, "model.grids.match": "teacher_size"},
        ("model.grids.match='teacher_size'", "5x5", "4x4", "remove model.teacher.img_size", "match='coarser'"),
    ),
    "batch too small to mask": (
        {"train_dataloader.batch_size": 1},
        ("train_dataloader.batch_size = 1", "probability", "at least 2"),
    ),
    "crop of another size": (
        {"train_dataloader.dataset.pipeline.0.scale": 70},
        ("pipeline[0].scale = 70", "LoadRandomResizedCrop", "model.student.img_size is 56"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_in_a_sentence(case: str, config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_teacher(tmp_path / "wide.safetensors", embed_dim=96)
    torch.save({"model": Trap(str(tmp_path / "sprung"))}, tmp_path / "trap.pth")
    values, words = CASES[case]
    filled = {key: str(value).format(tmp=tmp_path) for key, value in values.items()}
    assert_refused(
        tool("train.py", config, "--work-dir", tmp_path / "run", *options(filled)),
        *(word.format(tmp=tmp_path) for word in words),
    )
    assert not (tmp_path / "sprung").exists()
    assert not list(tmp_path.rglob("iter_*.pth"))


def test_a_typo_deep_inside_the_file(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "typo.py"
    path.write_text(config.read_text() + 'model["teacher"]["backbone"]["interpolate_ofset"] = 0.0\n')
    assert_refused(
        tool("train.py", path), str(path), "model.teacher.backbone.interpolate_ofset", "'interpolate_offset'"
    )


def test_no_such_config() -> None:
    assert_refused(tool("train.py", "missing.py"), "missing.py", "no such config file")


class Trap:
    """What a pickle makes of it creates the file ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def assert_refused(done: Any, *words: str) -> None:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not log_lines(done.stdout + done.stderr)
    for word in words:
        assert word in done.stderr
