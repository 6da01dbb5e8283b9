"""A supervised run has no teacher, and says so where an objective asks for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from proteus.models import Distiller
from proteus.registry import MODELS

STUDENT = {"type": "ViT", "arch": "tiny", "img_size": 28, "embed_dim": 24, "depth": 1, "num_heads": 2}
LABELS = {"task": {"type": "LabelObjective", "num_classes": 5}}


def distiller(objectives: dict[str, Any]) -> Distiller:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Distiller({"type": "NoTeacher"}, STUDENT, objectives)


def test_features_of_width_0() -> None:
    teacher = MODELS.build({"type": "NoTeacher", "input_mean": (0.5, 0.5, 0.5), "input_std": (0.2, 0.2, 0.2)})
    found = teacher(torch.zeros(3, 3, 28, 28))
    assert (found.cls.shape, found.patches.shape, found.grid) == ((3, 0), (3, 0, 0), (0, 0))
    assert (teacher.embed_dim, teacher.grid_for(224), teacher.img_size) == (0, (0, 0), None)
    assert not list(teacher.parameters())
    assert not teacher.state_dict()


def test_the_loss_is_that_of_the_labels_alone() -> None:
    model = distiller(LABELS).train()
    images = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 4, 2, 1])
    losses = model(images, labels=labels, mode="loss")
    assert list(losses) == ["loss_task"]
    losses["loss_task"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    assert not any(name.startswith("teacher") for name in model.state_dict())


@pytest.mark.parametrize("objective", ["TokenObjective", "FeatureObjective"])
def test_an_objective_that_needs_a_teacher_is_refused(objective: str) -> None:
    with pytest.raises(ValueError, match="teacher"):
        distiller({**LABELS, "other": {"type": objective}})
