"""Distillers at the sizes of a schedule: what is refused before the first step, and what each size computes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from two_ranks import on_two_ranks

from proteus.datasets import ProxySampler, ResolutionBatchSampler, SampleKey
from proteus.models import Distiller, MultiStudentDistiller, MultiTeacherDistiller
from proteus.models.distillers.scheduled_sizes import check_scheduled_sizes
from proteus.structures import UserError

SIZE: dict[str, Any] = dict(type="ViT", arch="tiny", img_size=56, patch_size=14, depth=2, interpolate_offset=0.0)
TEACHER: dict[str, Any] = dict(type="Teacher", backbone=dict(**SIZE, embed_dim=32, num_heads=4))
# Its patches lie on another grid than the student's at each size.
FINER: dict[str, Any] = dict(type="Teacher", backbone={**TEACHER["backbone"], "patch_size": 7})
STUDENT: dict[str, Any] = dict(**SIZE, embed_dim=24, num_heads=3, mask_token=True)
CNN: dict[str, Any] = dict(type="TimmBackbone", arch="test_resnet", mask_colour="mean")
TOKEN: dict[str, Any] = dict(token=dict(type="TokenObjective"))
PATCH: dict[str, Any] = dict(patch=dict(type="PatchObjective"))
OBJECTIVES = {**TOKEN, **PATCH, "feature": dict(type="FeatureObjective", cls_term="token")}
TEACHERS: dict[str, Any] = dict(
    first=dict(teacher=TEACHER, objectives={**OBJECTIVES, "hidden": dict(type="HiddenStatesObjective")}),
    second=dict(teacher=FINER, objectives=OBJECTIVES),
)
STAGES = [dict(size=28, end=2, batch_size=6), dict(grow_from=28, size=56, end=5), dict(size=(28, 56))]
SIZES = [(28, 28), (28, 28), (28, 28), (42, 42), (56, 56), (28, 56)]


def built() -> MultiTeacherDistiller:
    torch.manual_seed(0)
    model = MultiTeacherDistiller(copy.deepcopy(TEACHERS), copy.deepcopy(STUDENT))
    model.student.mask_token.data.normal_(generator=torch.Generator().manual_seed(0))
    return model


def batches(ranks: int = 1) -> Iterator[dict[str, Any]]:
    """The batches of one rank; with one rank those that two ranks have together."""
    share = 2 // ranks
    stages = [{**stage, "batch_size": share * stage.get("batch_size", 4)} for stage in STAGES]
    sampler = ResolutionBatchSampler(ProxySampler(range(24), seed=3), share * 4, stages)
    for keys, size in zip(sampler, SIZES, strict=False):
        assert {key.size for key in keys} == {size}
        images, masks = zip(*map(view, keys), strict=True)
        half = torch.stack(masks[: len(masks) // 2])
        yield {
            "inputs": torch.stack(images),
            "masks": half,
            "mask_indices": half.flatten().nonzero().squeeze(1),
            "keys": torch.tensor([key.parts for key in keys]),
        }


def view(key: SampleKey) -> tuple[Tensor, Tensor]:
    """An image of the key's size, and its mask."""
    assert key.size is not None
    generator = torch.Generator().manual_seed(1000 * key.epoch + key.image)
    count = key.size[0] * key.size[1] // 14**2
    return torch.rand(3, *key.size, generator=generator), torch.rand(count, generator=generator).argsort() < count // 2


def trained(model: Any, wrapped: Any, ranks: int) -> tuple[list[Tensor], dict[str, Tensor], list[dict[str, Tensor]]]:
    """Keys and losses of each step, and the weights after the last."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    keys, logs = [], []
    for batch in batches(ranks):
        keys.append(batch.pop("keys"))
        log = wrapped.train_step(batch, wrapper)
        logs.append({name: value.detach() for name, value in log.items()})
    return keys, dict(model.state_dict()), logs


RANK = """
from test_scheduled_sizes import built, trained
from proteus.engine import DataParallel

model = built()
result = trained(model, DataParallel(model), 2)
"""


@pytest.mark.slow
def test_two_ranks_follow_a_schedule_as_one_process(tmp_path: Path) -> None:
    model = built()
    keys, weights, logs = trained(model, model, 1)
    ranks = on_two_ranks(RANK, __file__, tmp_path)
    for step, together in enumerate(keys):  # ranks take turns in the order of one process
        assert torch.equal(torch.stack([own[0][step] for own in ranks], dim=1).flatten(0, 1), together)
    for step, log in enumerate(logs):
        for name, value in log.items():
            mean = (ranks[0][2][step][name] + ranks[1][2][step][name]) / 2
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for name, value in weights.items():
        assert torch.equal(ranks[0][1][name], ranks[1][1][name]), name
        torch.testing.assert_close(ranks[0][1][name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_size_computes_the_same_whatever_came_before() -> None:
    model = built()
    for data in batches():
        del data["keys"]
        found, fresh = (
            each.eval()(**each.data_preprocessor(dict(data), True), mode="loss") for each in (model, built())
        )
        assert {name.partition("/")[2] for name in found} == {
            f"loss_{name}" for name in ("token", "patch", "feature", "hidden")
        }
        for name, value in fresh.items():
            assert value.isfinite()
            assert torch.equal(found[name], value), name
        grids = [each.teacher.grid_for(tuple(data["inputs"].shape[-2:])) for each in model.distillers.values()]
        assert grids[1] == (2 * grids[0][0], 2 * grids[0][1])


def refused(model: Any, sizes: list[tuple[int, int]], masks: tuple[int, ...] = ()) -> str:
    with pytest.raises(UserError) as error:
        check_scheduled_sizes(model, sizes, masks)
    return str(error.value)


def test_the_message_names_the_teacher_that_does_not_take_a_size() -> None:
    odd = dict(type="Teacher", backbone={**TEACHER["backbone"], "patch_size": 16, "img_size": 64})
    several = dict(first=TEACHERS["first"], second=dict(teacher=odd, objectives=TOKEN))
    with torch.device("meta"):
        students = MultiStudentDistiller(copy.deepcopy(odd), {"small": dict(student=STUDENT, objectives=TOKEN)})
        teachers = MultiTeacherDistiller(copy.deepcopy(several), copy.deepcopy(STUDENT))
    # Several students have one teacher, with a key that is not theirs.
    assert "enter model.teacher with 28x28 px" in refused(students, [(28, 28)])
    assert "or model.teacher.img_size=256" in refused(students, [(28, 28)])
    assert "enter model.teachers.second.teacher with 28x28 px" in refused(teachers, [(112, 112), (28, 28)])
    check_scheduled_sizes(teachers, [(112, 112)])


def test_a_teacher_of_timm_that_does_not_take_a_size() -> None:
    backbone = dict(type="TimmBackbone", arch="test_vit", img_size=64, dynamic_img_size=True)
    with torch.device("meta"):
        model = Distiller(dict(type="Teacher", backbone=backbone), copy.deepcopy(STUDENT), copy.deepcopy(TOKEN))
    check_scheduled_sizes(model, [(112, 112)])
    message = refused(model, [(112, 112), (56, 70)])
    assert "images of 56x70 px enter model.teacher with 56x70 px, which its backbone does not take" in message
    assert message.endswith("model.teacher.img_size=64")


def test_masks_that_do_not_fit_a_cnn_at_one_of_the_sizes() -> None:
    with torch.device("meta"):
        model = Distiller(copy.deepcopy(TEACHER), copy.deepcopy(CNN), {**OBJECTIVES})
        unmasked = Distiller(copy.deepcopy(TEACHER), copy.deepcopy(CNN), {**TOKEN})
    # A stride of 32 makes 4x4 patches of 112 px, and 5x5 of 140 px; 28 px divide into 140 as 5x5, 32 px as 4x4.
    check_scheduled_sizes(model, [(112, 112), (140, 140)], {28})
    message = refused(model, [(112, 112), (140, 140)], (32,))
    assert "masks of images of 112x112 px have 3x3 patches (patch_size=32), and model.student has 4x4" in message
    assert message.endswith(
        "write patch_size=28 in the mask transform, or other sizes in train_dataloader.batch_sampler"
    )
    check_scheduled_sizes(unmasked, [(112, 112)], {32})
