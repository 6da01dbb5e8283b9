"""Runs on images that cannot be read end with one line that names them, or continue and name them in the log."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from image_kinds import refused
from mmengine.hooks import Hook
from runs import write_config, write_images, write_teacher

from proteus.apis import load_config, train
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils.user_errors import mistake


@HOOKS.register_module()
class RemoveImages(Hook):
    """Remove the proxy set after the second iteration."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Remove it."""
        if batch_idx == 1:
            shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


def run(place: Path, teacher: Path, images: Path, **values: Any) -> None:
    cfg = load_config(str(write_config(place, images, teacher)))
    cfg.work_dir = str(place / "out")
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.merge_from_dict(values)
    train(cfg)


def refused_line(place: Path, teacher: Path, images: Path, **values: Any) -> str:
    with pytest.raises(UserError) as error:
        run(place, teacher, images, **values)
    line = mistake(error.value)
    assert line is not None
    assert "\n" not in line
    return line


@pytest.mark.parametrize("name", ["page.jpg", "int32.tif", "float64.tif", "empty.png"])
def test_a_folder_without_one_image_that_can_be_read(tmp_path: Path, teacher: Path, name: str) -> None:
    content, words = refused()[name]
    (tmp_path / "images").mkdir()
    for number in range(20):
        (tmp_path / "images" / f"{number:02}_{name}").write_bytes(content)
    line = refused_line(tmp_path, teacher, tmp_path / "images")
    assert name in line
    assert words.split(".*")[0] in line


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_that_is_removed_during_the_run(tmp_path: Path, teacher: Path, workers: int) -> None:
    images = write_images(tmp_path / "images")
    hooks = [{"type": "RemoveImages", "folder": str(images)}]
    values = {"custom_hooks": hooks, "train_dataloader.num_workers": workers, "train_cfg.max_iters": 40}
    line = refused_line(tmp_path, teacher, images, **values)
    assert "No such file" in line or "are corrupt, more than 3 " in line


def test_the_log_names_a_corrupt_image_of_any_bytes(tmp_path: Path, teacher: Path) -> None:
    images = write_images(tmp_path / "images")
    for name in (os.fsdecode(b"caf\xe9.jpg"), "two\nlines.jpg", "\x1b[2J.jpg"):
        (images / name).write_bytes(b"<html>")
    run(tmp_path, teacher, images, **{"default_hooks.corrupt_images.max_share": 0.5, "train_cfg.max_iters": 20})
    (log,) = (tmp_path / "out").rglob("*.log")
    text = log.read_text(encoding="utf-8")
    for name in (r"caf\udce9.jpg", r"two\nlines.jpg", r"\x1b[2J.jpg"):
        assert text.count(f"unreadable image replaced: {images}/{name} (UnidentifiedImageError: not an") == 1
