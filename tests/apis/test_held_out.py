"""Comparison of a student and its teacher on held-out photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from runs import write_images, write_teacher

from proteus.apis import held_out
from proteus.evaluation import patch_retrieval
from proteus.registry import MODELS


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """A run with five photographs and a small teacher, as far as the comparison needs it."""
    images = write_images(tmp_path / "images", 5)
    sizes = {"img_size": 28, "depth": 1, "embed_dim": 192, "num_heads": 3}
    weights = write_teacher(tmp_path / "teacher.safetensors", **sizes)
    backbone = {"type": "ViT", "arch": "tiny", **sizes, "checkpoint": str(weights)}
    model = {
        "type": "Distiller",
        "student": {"type": "ViT", "arch": "tiny", "img_size": 28, "depth": 1},
        "teacher": {"type": "Teacher", "backbone": backbone},
        "objectives": {"token": {"type": "TokenObjective"}},
        "data_preprocessor": {"type": "DistillDataPreprocessor"},
    }
    dataset = {"type": "ImageFolder", "data_root": str(images)}
    crop = {"type": "LoadRandomResizedCrop", "scale": 28}
    return Config(
        {
            "model": model,
            "train_dataloader": {"dataset": {**dataset, "pipeline": [crop]}},
            "val_dataloader": {"dataset": dataset},
        }
    )


def test_photographs_are_squares_and_at_most_200(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = held_out.load_photographs(cfg)
    assert photographs.shape == (5, 3, 320, 320)
    assert photographs.dtype == torch.float32
    assert 0 <= photographs.min() < photographs.max() <= 1
    monkeypatch.setattr(held_out, "MAX_PHOTOGRAPHS", 2)
    assert torch.equal(held_out.load_photographs(cfg), photographs[:2])


def test_a_student_with_the_teachers_weights_scores_as_the_teacher(cfg: Config) -> None:
    """Both are seeded alike, so that they get the same crops."""
    photographs = held_out.load_photographs(cfg)[:, :, :64, :64]
    scores = held_out.compare_retrieval(cfg, cfg.model.teacher.backbone.checkpoint, photographs)
    assert scores["chance_patch_retrieval"] == 1 / 5
    assert 0 < scores["patch_retrieval"] <= 1
    assert scores["patch_retrieval"] == scores["teacher_patch_retrieval"]


def test_the_teacher_sees_images_as_in_training(cfg: Config) -> None:
    cfg.model.teacher.update(mean=(0.9, 0.1, 0.5), std=(0.05, 0.5, 0.2), img_size=42)
    photographs = held_out.load_photographs(cfg)[:, :, :64, :64]
    model = MODELS.build(cfg.model)
    expected = patch_retrieval(held_out.encoder(model.teacher, model.data_preprocessor), photographs, 28)
    scores = held_out.compare_retrieval(cfg, cfg.model.teacher.backbone.checkpoint, photographs)
    assert scores["teacher_patch_retrieval"] == expected != scores["patch_retrieval"]


def test_a_student_without_a_size_is_compared_at_that_of_the_training(cfg: Config) -> None:
    photographs = held_out.load_photographs(cfg)[:, :, :64, :64]
    expected = held_out.compare_retrieval(cfg, cfg.model.teacher.backbone.checkpoint, photographs)
    del cfg.model.student["img_size"]
    assert held_out.compare_retrieval(cfg, cfg.model.teacher.backbone.checkpoint, photographs) == expected
