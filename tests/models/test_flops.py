import pytest
import torch
from mmengine.config import Config

from proteus.apis.model_cost import step_cost
from proteus.models import Distiller
from proteus.models.flops import distillation_flops

SIZES = {"type": "ViT", "arch": "tiny", "img_size": 56, "depth": 2}
STUDENT = {
    "student": {**SIZES, "embed_dim": 96, "num_heads": 3, "mask_token": True},
    "objectives": {"token": {"type": "TokenObjective"}, "patch": {"type": "PatchObjective"}},
}
# A file that is not there: no weights are read to count.
TEACHER = {"type": "Teacher", "compile": True, "backbone": {**SIZES, "checkpoint": "nowhere.safetensors"}}


def batch(images: int) -> dict[str, torch.Tensor]:
    masks = torch.zeros(images // 2, 16, dtype=torch.bool)
    masks[:, ::2] = True
    return {"inputs": torch.zeros(images, 3, 56, 56), "masks": masks, "mask_indices": masks.flatten().nonzero()[:, 0]}


def test_against_the_check_of_a_config() -> None:
    with torch.device("meta"):
        model = Distiller(teacher={"type": "Teacher", "backbone": SIZES}, **STUDENT)
    cost = step_cost(model, Config({"train_dataloader": {"batch_size": 8, "collate_fn": {"probability": 0.5}}}))
    config = {"type": "Distiller", "teacher": TEACHER, **STUDENT}
    found = distillation_flops(config, batch(8))
    assert found == pytest.approx(cost.step_flops)
    assert config["teacher"]["backbone"]["checkpoint"] == "nowhere.safetensors"  # the run's config is left alone
    assert distillation_flops(config, batch(64)) == pytest.approx(found)  # counted on a shorter batch
    tokens = {"teacher_cls": torch.zeros(8, 192), "teacher_patches": torch.zeros(8, 16, 192)}
    assert distillation_flops(config, {**batch(8), **tokens}) == pytest.approx(found - cost.teacher_flops)


def test_shifted_views_are_smaller_than_the_images() -> None:
    config = {"type": "Distiller", "teacher": TEACHER, **STUDENT}
    shifted = {**config, "data_preprocessor": {"type": "ShiftDataPreprocessor", "shift": 2}}
    masks = torch.zeros(4, 36, dtype=torch.bool)
    masks[:, ::2] = True
    large = {"inputs": torch.zeros(8, 3, 84, 84), "masks": masks, "mask_indices": masks.flatten().nonzero()[:, 0]}
    assert distillation_flops(shifted, large) == pytest.approx(distillation_flops(config, batch(8)))


def test_two_students_share_the_teacher() -> None:
    one = distillation_flops({"type": "Distiller", "teacher": TEACHER, **STUDENT}, batch(8))
    both = {"type": "MultiStudentDistiller", "teacher": TEACHER, "students": {"a": STUDENT, "b": STUDENT}}
    with torch.device("meta"):
        model = Distiller(teacher={"type": "Teacher", "backbone": SIZES}, **STUDENT)
    cost = step_cost(model, Config({"train_dataloader": {"batch_size": 8, "collate_fn": {"probability": 0.5}}}))
    assert one is not None
    assert distillation_flops(both, batch(8)) == pytest.approx(2 * one - cost.teacher_flops)


def test_what_does_not_distil() -> None:
    assert distillation_flops({"type": "LinearProbe", "backbone": SIZES, "layers": (1,)}, batch(8)) is None
