import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import trained

from proteus.models import Objective, PatchObjective, StepFeatures

AtIdentity = Callable[[Objective], Objective]


def test_patch_term_is_a_mean_over_all_masked_patches(step: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(PatchObjective(student_dim=2, teacher_dim=2))
    # Patch 0: (-1, 1) against (-1, 1): 0, 0. Patch 1: (1, -1) against (0, 0): 1, 1. Patch 3: (-1, 1) against (0, 0).
    # A mean of the two images' means would be 3 / 4.
    assert objective(step, {}).item() == pytest.approx(4 / 6, rel=1e-4)


def test_patch_term_of_fewer_masked_images(step: StepFeatures, at_identity: AtIdentity) -> None:
    assert step.masked is not None
    fewer = dataclasses.replace(step, masked=step.masked[:1], mask_indices=torch.tensor([1]))
    assert at_identity(PatchObjective(student_dim=2, teacher_dim=2))(fewer, {}).item() == pytest.approx(1, rel=1e-4)


def test_patch_objective_without_masks_raises(step: StepFeatures) -> None:
    without = dataclasses.replace(step, masked=None, mask_indices=None)
    with pytest.raises(ValueError, match="add a mask transform to the training pipeline"):
        PatchObjective(student_dim=2, teacher_dim=2)(without, {})


RANK = """
import os
import torch
from torch import distributed
from proteus.models import PatchObjective, StepFeatures
from proteus.structures import Features

rank = int(os.environ["RANK"])
distributed.init_process_group("gloo")
torch.manual_seed(0)
objective = PatchObjective(student_dim=3, teacher_dim=2)
teacher, student = torch.randn(2, 8, 2), torch.randn(2, 8, 3)
indices = [torch.tensor([0, 3, 4, 5, 7]), torch.tensor([2])]
steps = [
    StepFeatures(*(Features(x[:, 0], x, (2, 4)) for x in (t[None], s[None], s[None])), indices[i])
    for i, (t, s) in enumerate(zip(teacher, student))
]
mine = objective(steps[rank], {})
mine.backward()
gradient = objective.head[1].weight.grad.clone()
for value in (mine := mine.detach(), gradient):
    distributed.all_reduce(value)
picked = [objective.head(student[i, indices[i]]) - teacher[i, indices[i]] for i in (0, 1)]
whole = torch.cat(picked).square().mean()
(expected,) = torch.autograd.grad(whole, objective.head[1].weight)
torch.testing.assert_close(mine / 2, whole.detach())
torch.testing.assert_close(gradient / 2, expected)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_the_mean_over_two_ranks_is_the_mean_over_all_masked_patches(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    trained(str(script), ranks=2)


def test_all_patches_of_the_masked_view_by_hand(step: StepFeatures, at_identity: AtIdentity) -> None:
    objective = at_identity(PatchObjective(student_dim=2, teacher_dim=2, tokens="all"))
    # As in the first test, and the visible patch 2: (1, -1) against (1, 3): 0, 16.
    assert objective(step, {}).item() == pytest.approx(20 / 8, rel=1e-4)
    (pair,) = objective.compared_tokens(step) or []
    assert torch.nn.functional.mse_loss(*pair).item() == pytest.approx(20 / 8, rel=1e-4)
    assert step.masked is not None
    fewer = dataclasses.replace(step, masked=step.masked[:1], mask_indices=torch.tensor([1]))
    assert objective(fewer, {}).item() == pytest.approx(2 / 4, rel=1e-4)
    with pytest.raises(ValueError, match="add a mask transform"):
        objective(dataclasses.replace(step, masked=None, mask_indices=None), {})


def test_patches_that_count_are_one_of_two_sets() -> None:
    with pytest.raises(ValueError, match="tokens='visible': choose from: 'masked', 'all'"):
        PatchObjective(2, 2, tokens="visible")  # type: ignore[arg-type]
