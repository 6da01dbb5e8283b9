from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_samples import data_samples
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.models import Distiller, ViT

BuildDistiller = Callable[..., Distiller]

NONE: dict[str, Any] = {"token": None, "feature": None, "patch": None}
CLASSIFIER = {"classifier": dict(type="LinearClassifier", num_classes=7, layers=2)}


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 56, 56, generator=torch.Generator().manual_seed(1))


def test_teachers_scores_and_labels_reach_the_loss(distiller: BuildDistiller) -> None:
    logits = dict(type="LogitsObjective", num_classes=7, alpha=0.5, loss=dict(type="HardLogitsLoss"), weight=3.0)
    model = distiller(teacher=CLASSIFIER, **NONE, logits=logits)
    labels = torch.tensor([0, 5, 6])
    (name, found), *others = model(images(), labels=labels, mode="loss").items()
    assert (name, others) == ("loss_logits", [])
    scores = model.objectives["logits"].head(model.student(images()).cls)
    choice = model.teacher.classify(images())[1].argmax(1)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(found, 1.5 * (cross_entropy(scores, choice) + cross_entropy(scores, labels)))
    found.backward()
    assert model.student.vit.cls_token.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_logits_next_to_the_papers_objectives(distiller: BuildDistiller) -> None:
    model = distiller(teacher=CLASSIFIER, logits=dict(type="LogitsObjective", num_classes=7))
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, ::2] = True
    losses = model(images(), masks=masks, mask_indices=masks.flatten().nonzero()[:, 0], mode="loss")
    assert set(losses) == {"loss_token", "loss_feature", "loss_patch", "loss_logits"}
    (sample, *_) = model(images(), data_samples=data_samples({"label": 2}) * 3, mode="predict")
    assert sample["label"] == 2
    assert sample["teacher_logits"].shape == sample["student_logits"].shape == (7,)


def test_labels_need_no_teacher(distiller: BuildDistiller) -> None:
    student = dict(type="ViT", arch="tiny", img_size=56, embed_dim=24, depth=2, num_heads=3)
    labels = dict(type="LabelObjective", num_classes=7)
    model = Distiller(teacher=dict(type="NoTeacher"), student=student, objectives={"labels": labels})
    assert set(model(images(), labels=torch.tensor([0, 1, 2]), mode="loss")) == {"loss_labels"}
    (sample, *_) = model(images(), mode="predict")
    assert sample["student_logits"].shape == (7,)
    assert "teacher_logits" not in sample
    with pytest.raises(ValueError, match=r"model\.objectives\.token needs a teacher"):
        Distiller(teacher=dict(type="NoTeacher"), student=student, objectives={"token": dict(type="TokenObjective")})


def test_a_teacher_that_cannot_classify(distiller: BuildDistiller) -> None:
    with pytest.raises(ValueError, match=r"model\.objectives\.logits needs a teacher that classifies"):
        distiller(**NONE, logits=dict(type="LogitsObjective", num_classes=7))
    with pytest.raises(ValueError, match=r"num_classes=1000, but model\.teacher\.classifier has 7 classes"):
        distiller(teacher=CLASSIFIER, **NONE, logits=dict(type="LogitsObjective"))


def test_wrong_classifier_is_reported_by_its_key(distiller: BuildDistiller, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(7, 5), "bias": torch.zeros(7)}, tmp_path / "head.safetensors")
    classifier = {**CLASSIFIER["classifier"], "checkpoint": str(tmp_path / "head.safetensors")}
    with pytest.raises(CheckpointError, match=r"^model\.teacher\.classifier\.checkpoint: "):
        distiller(teacher={"classifier": classifier})


def test_a_student_inherits(tmp_path: Path) -> None:
    size: dict[str, Any] = dict(type="ViT", arch="tiny", img_size=56, depth=2)
    options = {key: value for key, value in size.items() if key != "type"}
    larger = ViT(**options, embed_dim=48, num_heads=6)
    save_file(larger.timm_state(), tmp_path / "larger.safetensors")
    inherit = dict(type="WeightSelection", checkpoint=str(tmp_path / "larger.safetensors"))
    config = dict(
        teacher=dict(type="NoTeacher"),
        student={**size, "embed_dim": 24, "num_heads": 3},
        objectives={"labels": dict(type="LabelObjective")},
    )
    model = Distiller(**config, init_from=inherit)
    assert torch.equal(model.student.vit.pos_embed, larger.vit.pos_embed[..., ::2])
    assert not any(key.startswith("init_from") for key in model.state_dict())
    config["student"] = {**size, "embed_dim": 96, "num_heads": 3}
    with pytest.raises(CheckpointError, match=r"^model\.init_from\.checkpoint: .*at least as large"):
        Distiller(**config, init_from=inherit)
