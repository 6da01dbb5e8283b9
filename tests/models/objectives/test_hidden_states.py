from __future__ import annotations

import pytest
import torch
from torch import Tensor

from proteus.models import HiddenStatesObjective, StepFeatures
from proteus.models.objectives import matching_blocks
from proteus.structures import Features


def hidden(*streams: Tensor) -> tuple[Features, ...]:
    return tuple(Features(stream[:, 0], stream[:, 1:], (1, stream.shape[1] - 1)) for stream in streams)


def step_of(student: list[Tensor], teacher: list[Tensor]) -> StepFeatures:
    own, target = hidden(*student), hidden(*teacher)
    return StepFeatures(target[-1], own[-1], teacher_hidden=target, student_hidden=own)


def test_error_by_hand() -> None:
    objective = HiddenStatesObjective(student_dim=1, teacher_dim=2, cls_share=0.4)
    objective.set_basis(torch.tensor([[1.0, -1.0]]))
    # The squared distance from the mean of (3, 1) is 2, of (0, 4) is 8; they project to 2 and -4.
    teacher = torch.tensor([[[3.0, 1.0], [0.0, 4.0]]])
    student = torch.tensor([[[1.0], [0.0]]])
    # cls: (1 - 2)^2 / 2; patch: (0 + 4)^2 / 8.
    found = objective(step_of([student], [teacher]), {})
    assert found.item() == pytest.approx(0.4 * 1 / 2 + 0.6 * 16 / 8)
    # A second block without error halves the mean.
    exact = torch.tensor([[[2.0], [-4.0]]])
    found = objective(step_of([student, exact], [teacher, teacher]), {})
    assert found.item() == pytest.approx((0.2 + 1.2) / 2)


def test_check_of_a_config_runs_on_the_meta_device() -> None:
    objective = HiddenStatesObjective(student_dim=2, teacher_dim=3).to("meta")
    student, teacher = torch.zeros(2, 5, 2, device="meta"), torch.zeros(2, 5, 3, device="meta")
    assert objective(step_of([student], [teacher]), {}).is_meta


@pytest.mark.parametrize(
    ("student", "teacher", "blocks"),
    [(3, 3, [0, 1, 2]), (2, 6, [2, 5]), (3, 4, [0, 1, 3]), (4, 2, [0, 1, 1, 1])],
)
def test_blocks_at_the_same_depth(student: int, teacher: int, blocks: list[int]) -> None:
    assert matching_blocks(student, teacher) == blocks


def test_the_first_training_step_sets_the_basis_to_principal_directions() -> None:
    torch.manual_seed(0)
    # The teacher's stream varies in 3 directions that sum to zero, so that 4 coordinates hold all of it.
    directions = torch.linalg.qr(torch.randn(8, 3))[0].T
    directions = torch.linalg.qr((directions - directions.mean(1, keepdim=True)).T)[0].T
    teacher = [torch.randn(2, 6, 3) @ directions for _ in range(2)]
    objective = HiddenStatesObjective(student_dim=4, teacher_dim=8)
    assert not objective.eval()(step_of([torch.zeros(2, 6, 4)] * 2, teacher), {}).isnan()
    assert not objective.basis.any()  # evaluation changes nothing
    loss = objective.train()(step_of([torch.zeros(2, 6, 4)] * 2, teacher), {})
    assert loss.item() == pytest.approx(1, abs=1e-4)  # all of the variance is missing, and none is lost by the basis
    projected = [stream @ objective.basis.T for stream in teacher]
    assert objective(step_of(projected, teacher), {}).item() == pytest.approx(0, abs=1e-6)
    assert projected[0].sum(-1).abs().max() < 1e-5  # the student's LayerNorm centres nothing away
    kept = objective.basis.clone()
    objective(step_of(projected, [3 * stream.flip(-1) for stream in teacher]), {})
    assert torch.equal(objective.basis, kept)
    assert "basis" in objective.state_dict()


def test_gradients_reach_the_student_alone() -> None:
    objective = HiddenStatesObjective(student_dim=2, teacher_dim=3).train()
    student = [torch.randn(2, 4, 2, requires_grad=True) for _ in range(2)]
    teacher = [torch.randn(2, 4, 3) for _ in range(4)]
    objective(step_of(student, teacher), {}).backward()
    assert all(stream.grad is not None and stream.grad.abs().min() > 0 for stream in student)
    assert list(objective.parameters()) == []


def test_the_error_is_computed_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    objective = HiddenStatesObjective(student_dim=32, teacher_dim=64)
    step = step_of([torch.randn(2, 5, 32)], [torch.randn(2, 5, 64)])
    expected = objective(step, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(step, {})
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_the_basis_is_computed_in_full_precision_under_autocast() -> None:
    torch.manual_seed(0)
    step = step_of([torch.randn(4, 9, 8)], [torch.randn(4, 9, 64) * torch.linspace(1, 3, 64)])
    plain, mixed = (HiddenStatesObjective(student_dim=8, teacher_dim=64) for _ in range(2))
    plain(step, {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed(step, {})
    assert torch.equal(mixed.basis, plain.basis)


def test_a_basis_is_computed_once_and_again_after_weights_without_one_are_loaded() -> None:
    torch.manual_seed(0)
    objective = HiddenStatesObjective(student_dim=4, teacher_dim=8)
    fresh = {name: value.clone() for name, value in objective.state_dict().items()}
    first, second = (step_of([torch.zeros(2, 6, 4)], [torch.randn(2, 6, 8)]) for _ in range(2))
    objective(first, {})
    kept = objective.basis.clone()
    objective.load_state_dict({"basis": kept})
    objective(second, {})
    assert torch.equal(objective.basis, kept)
    objective.load_state_dict(fresh)
    objective(second, {})
    assert objective.basis.any()
    assert not torch.equal(objective.basis, kept)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="width 8 is above the teacher's 4"):
        HiddenStatesObjective(student_dim=8, teacher_dim=4)
    with pytest.raises(ValueError, match="cls_share"):
        HiddenStatesObjective(student_dim=4, teacher_dim=8, cls_share=1.5)
