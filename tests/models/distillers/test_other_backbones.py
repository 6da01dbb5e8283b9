"""Students and teachers that are no ViTs of ours, in a distiller."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from proteus.checkpoints import CheckpointError
from proteus.models import Distiller
from proteus.structures import Features

TEACHER: dict[str, Any] = {
    "type": "Teacher",
    "backbone": {"type": "ViT", "arch": "tiny", "img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 2}
    | {"num_heads": 4},
}
CONVNEXT = {"type": "TimmBackbone", "arch": "test_convnext", "img_size": 64}
DINOV3 = {"type": "TimmBackbone", "arch": "vit_small_patch16_dinov3", "embed_dim": 48, "depth": 2, "num_heads": 3}
DINOV3 |= {"img_size": 64}
RESNET = {"type": "mmpretrain.ResNet", "depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1}
GUEST_VIT: dict[str, Any] = {"type": "mmpretrain.VisionTransformer", "img_size": 64, "patch_size": 16}
GUEST_VIT |= {"arch": {"embed_dims": 48, "num_layers": 2, "num_heads": 3, "feedforward_channels": 96}}
GUEST_VIT |= {"out_type": "raw"}
TOKEN = {"token": {"type": "TokenObjective"}}
FEATURE = {**TOKEN, "feature": {"type": "FeatureObjective", "cls_term": "token"}}


def distiller(student: dict[str, Any], teacher: dict[str, Any] = TEACHER, objectives: Any = TOKEN) -> Distiller:
    if "mmpretrain" in student["type"] + teacher["backbone"]["type"]:
        pytest.importorskip("mmpretrain")
    torch.manual_seed(0)
    return Distiller(copy.deepcopy(teacher), copy.deepcopy(student), copy.deepcopy(objectives))


def batch() -> dict[str, Any]:
    return {"inputs": torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))}


def trained(model: Distiller, steps: int = 12) -> list[float]:
    """The sum of the losses at each of some steps on one batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    model.train()
    for _ in range(steps):
        terms = model(**model.data_preprocessor(batch(), True), mode="loss")
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


@pytest.mark.parametrize("student", [CONVNEXT, DINOV3, RESNET, GUEST_VIT], ids=lambda s: s.get("arch", s["type"]))
def test_any_backbone_learns_from_the_token_objective(student: dict[str, Any]) -> None:
    model = distiller(student)
    before = {key: value.clone() for key, value in model.named_parameters()}
    totals = trained(model)
    assert totals[-1] < 0.7 * totals[0]
    # DistributedDataParallel waits for the gradient of every parameter that asks for one.
    still = [key for key, value in model.named_parameters() if value.grad is None]
    assert not still
    assert any(not torch.equal(value, before[key]) for key, value in model.student.named_parameters(prefix="student"))


@pytest.mark.parametrize("student", [DINOV3, GUEST_VIT], ids=["timm", "mmpretrain"])
def test_where_grids_are_equal_patches_are_compared(student: dict[str, Any]) -> None:
    terms = distiller(student, objectives=FEATURE)(**batch(), mode="loss")
    assert set(terms) == {"loss_token", "loss_feature"}


@pytest.mark.parametrize("student", [CONVNEXT, RESNET], ids=["timm", "mmpretrain"])
def test_patches_are_compared_on_the_grid_of_a_student_of_stride_32(student: dict[str, Any]) -> None:
    model = distiller(student, objectives=FEATURE)
    assert model.describe_grids((64, 64)) == (
        "student 2x2, teacher 4x4, compared on 2x2 patches (match='auto', mode='area')"
    )
    data = model.data_preprocessor(batch(), True)
    with torch.no_grad():
        model.eval()
        found = model(**data, mode="loss")
        theirs, ours = model.teacher(data["inputs"]), model.student(data["inputs"])
    means = torch.nn.functional.avg_pool2d(theirs.maps, 2).flatten(2).transpose(1, 2)
    patches = torch.nn.functional.mse_loss(model.objectives["feature"].head(ours.patches), means)
    torch.testing.assert_close(found["loss_feature"], (found["loss_token"] + 4 * patches) / 5, atol=1e-5, rtol=1e-5)


def test_patches_of_a_cnn_as_teacher_are_compared_on_its_grid() -> None:
    model = distiller(TEACHER["backbone"], {"type": "Teacher", "backbone": CONVNEXT}, FEATURE)
    assert all(term.isfinite() for term in model(**batch(), mode="loss").values())
    assert str(model.describe_grids((64, 64))).startswith("student 4x4, teacher 2x2, compared on 2x2 patches")


def test_a_student_that_cannot_mask_is_refused_by_a_masked_objective() -> None:
    with pytest.raises(ValueError, match=r"objectives \['patch'\] need a student that can mask") as refused:
        distiller(DINOV3, objectives={"patch": {"type": "PatchObjective"}})
    assert "write model.student.mask_colour='mean'" in str(refused.value)


class Own(nn.Module):
    """A backbone with what docs/extend.md lists for objectives, masked ones included."""

    embed_dim = 24

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 24, 16, 16), nn.Linear(24, 24)
        self.mask_token = nn.Parameter(torch.zeros(24))

    def grid_for(self, img_size: int | tuple[int, int]) -> tuple[int, int]:
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        return height // 16, width // 16

    def forward(self, images: torch.Tensor, masks: torch.Tensor | None = None) -> Features:
        patches = self.stem(images).flatten(2).mT
        if masks is not None:
            patches = torch.where(masks[..., None], self.mask_token, patches)
        patches = self.last(patches)
        return Features(patches.mean(1), patches, self.grid_for(tuple(images.shape[-2:])))


def test_a_backbone_of_another_project_as_student_and_as_teacher() -> None:
    own: dict[str, Any] = {"type": Own}
    for student, teacher in (
        (own, TEACHER),
        (TEACHER["backbone"] | {"mask_token": True}, {"type": "Teacher", "backbone": own}),
    ):
        model = Distiller(
            copy.deepcopy(teacher), dict(student), {**FEATURE, "patch": {"type": "PatchObjective"}}
        ).train()
        torch.stack(list(model(**masked_batch(4), mode="loss").values())).sum().backward()
        assert not [name for name, value in model.named_parameters() if value.grad is None]


def masked_batch(grid: int) -> dict[str, Any]:
    masks = (torch.arange(grid**2) % 2 == 0).repeat(2, 1)
    return {**batch(), "masks": masks, "mask_indices": masks.flatten().nonzero().squeeze(1)}


def test_a_cnn_learns_the_teachers_patches_from_two_levels() -> None:
    student = {**CONVNEXT, "levels": (-2, -1), "mask_colour": "learnt"}
    model = distiller(student, objectives={**FEATURE, "patch": {"type": "PatchObjective"}})
    widths = {name: objective.head.in_dim for name, objective in model.objectives_by_name.items()}
    both = sum(level["num_chs"] for level in model.student.model.feature_info[-2:])
    assert widths == {"token": 64, "feature": both, "patch": both}
    assert both > 64
    losses = model.train()(**masked_batch(4), mode="loss")
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None]
    assert model.student.learnt_colour.grad.abs().min() > 0
    predicted = model.eval().predict(batch()["inputs"])
    assert predicted[0]["student_patches"].shape == predicted[0]["teacher_patches"].shape == (16, 32)


def test_a_learnt_colour_that_no_objective_reads_is_frozen() -> None:
    model = distiller({**CONVNEXT, "mask_colour": "learnt"})
    assert not model.student.learnt_colour.requires_grad


def test_widths_that_one_objective_cannot_map_are_refused() -> None:
    student = {**CONVNEXT, "levels": (-2, -1)}
    with pytest.raises(ValueError, match=r"feature maps cls and patches, .* widths 64 and \d+: write cls_term='token'"):
        distiller(student, objectives={"feature": {"type": "FeatureObjective"}})
    teacher = {"type": "Teacher", "backbone": student}
    with pytest.raises(ValueError, match=r"of width 64 and patches of width \d+.*remove model.teacher.backbone.levels"):
        distiller(TEACHER["backbone"], teacher)


@pytest.mark.parametrize("backbone", [CONVNEXT, RESNET, DINOV3, GUEST_VIT], ids=lambda s: s.get("arch", s["type"]))
def test_any_backbone_can_teach(backbone: dict[str, Any]) -> None:
    model = distiller(TEACHER["backbone"], {"type": "Teacher", "backbone": backbone})
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    totals = trained(model, steps=2)
    assert totals[0] > 0
    after = model.teacher.state_dict()  # a BatchNorm that trained would have moved its statistics
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_unfitting_weights_of_mmpretrain_are_reported_with_their_key(tmp_path: Any) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    pretrained = {"type": "Pretrained", "checkpoint": str(tmp_path / "other.pth")}
    with pytest.raises(CheckpointError, match=r"model\.student\.\S*checkpoint: .*other\.pth"):
        distiller({**RESNET, "init_cfg": pretrained})
