import copy
from typing import Any

import pytest
import torch
from mmengine.config import Config

from proteus.apis.schedule_cost import ScheduleCost, describe_schedule, schedule_cost
from proteus.models import Distiller
from proteus.structures import UserError

SIZES = {"type": "ViT", "arch": "tiny", "img_size": 56, "depth": 2}
MODEL = {
    "teacher": {"type": "Teacher", "backbone": {**SIZES, "embed_dim": 192, "num_heads": 3}},
    "student": {**SIZES, "embed_dim": 96, "num_heads": 3},
    # No term on patches, so that the heads take next to nothing.
    "objectives": {"token": {"type": "TokenObjective"}},
}
STAGES = [dict(size=28, end=0.5, batch_size=32), dict(grow_from=42, size=56, end=80), dict(size=(56, 84))]


def config(stages: Any = STAGES) -> Config:
    sampler = {"type": "ResolutionBatchSampler", "stages": stages, "scale_lr": "linear"}
    return Config(
        {
            "default_scope": "proteus",
            "train_dataloader": {"batch_size": 16, "collate_fn": {"probability": 0.5}, "batch_sampler": sampler},
            "train_cfg": {"max_iters": 100},
        }
    )


@pytest.fixture(scope="module")
def model() -> Distiller:
    with torch.device("meta"):
        return Distiller(**copy.deepcopy(MODEL))


@pytest.fixture(scope="module")
def cost(model: Distiller) -> ScheduleCost:
    counted = schedule_cost(model, config())
    assert counted is not None
    return counted


def vit_flops(width: int, patches: int) -> int:
    """Two a multiply-add: patch embedding; qkv, projection and MLP (12 D^2 a token); both attention products."""
    tokens, depth = patches + 1, 2
    return 2 * (patches * 3 * 14 * 14 * width + depth * (12 * tokens * width**2 + 2 * tokens**2 * width))


def step_flops(patches: int) -> int:
    """Teacher once; student once forward and twice backward, without the gradient of the images; the head's three."""
    embedding = 2 * patches * 3 * 14 * 14 * 96
    return vit_flops(192, patches) + 3 * vit_flops(96, patches) - embedding + 3 * 2 * 96 * 192


def test_flops_of_the_run_computed_by_hand(cost: ScheduleCost) -> None:
    runs = [(50, 32, 2 * 2), (15, 16, 3 * 3), (15, 16, 4 * 4), (20, 16, 4 * 6)]  # iterations, images, patches
    for (height, width), flops in cost.flops_per_image.items():
        assert flops == pytest.approx(step_flops(height * width // 14**2), rel=0.01)
    assert cost.images == sum(count * images for count, images, _ in runs)
    by_hand = sum(count * images * step_flops(patches) for count, images, patches in runs)
    assert cost.flops == pytest.approx(by_hand, rel=0.01)
    assert cost.share == pytest.approx(by_hand / (cost.images * step_flops(24)), rel=0.01)


def test_rows(cost: ScheduleCost, model: Distiller) -> None:
    rows = describe_schedule(model, config())
    assert [title for title, _ in rows] == ["resolution", "", "", "", "run"]
    assert rows[0][1].startswith("28x28 px up to iteration 50: 32 images of 0.0 GFLOPs")
    assert rows[0][1].endswith("learning rate x 2")
    assert rows[3][1].startswith("56x84 px up to iteration 100: 16 images of ")
    assert rows[4][1] == (
        f"{cost.flops / 1e9:.4g} GFLOPs for 2,400 images of a process, {cost.share:.0%} of what as many images of "
        "56x84 px take"
    )


def test_a_run_of_one_size_has_none(model: Distiller) -> None:
    cfg = config()
    del cfg.train_dataloader["batch_sampler"]
    assert describe_schedule(model, cfg) == []


def test_a_teacher_with_other_patches() -> None:
    model = copy.deepcopy(MODEL)
    model["teacher"]["backbone"] |= {"patch_size": 16, "img_size": 64}
    with torch.device("meta"):
        of_tokens = Distiller(**copy.deepcopy(model))
        of_patches = Distiller(**{**copy.deepcopy(model), "objectives": {"feature": {"type": "FeatureObjective"}}})
    # Objectives on patches give the teacher images of whole patches; those on the cls token leave them as they are.
    cost = schedule_cost(of_patches, config([dict(size=28, end=0.5), dict(size=(56, 84))]))
    assert cost is not None
    assert [of_patches.teacher.input_size(size) for size in cost.schedule.sizes] == [(32, 32), (64, 96)]
    with pytest.raises(UserError, match=r"28x28 px enter model\.teacher with 28x28 px, .* 16 px: .* 112 divides"):
        schedule_cost(of_tokens, config([dict(size=28, end=0.5), dict(size=112)]))
    assert schedule_cost(of_tokens, config([dict(size=112)])) is not None
