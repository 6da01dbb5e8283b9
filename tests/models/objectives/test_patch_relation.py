import dataclasses

import pytest
import torch
from torch import Tensor

from proteus.models import PatchRelationObjective, StepFeatures
from proteus.structures import Features

KL = dict(type="RelationKLLoss", temperature=0.5)


def test_squared_error_by_hand(step: StepFeatures) -> None:
    objective = PatchRelationObjective(student_dim=2, teacher_dim=2)
    # Student, both images: (0, 2) and (4, 0), (2, 0) and (0, 6) are at right angles: [[1, 0], [0, 1]].
    # Teacher, both: a patch of zeros is similar to nothing, itself included: [[1, 0], [0, 0]].
    assert objective(step, {}).item() == pytest.approx(1 / 4)
    assert list(objective.parameters()) == []


def test_negative_similarities_are_dropped_on_both_sides(step: StepFeatures) -> None:
    opposite = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]]).repeat(2, 1, 1)
    changed = dataclasses.replace(step, teacher=Features(step.teacher.cls, opposite, (1, 2)))
    # Teacher: [[1, -1], [-1, 1]] against the student's unit matrix.
    assert PatchRelationObjective(2, 2)(changed, {}).item() == pytest.approx(2 / 4)
    assert PatchRelationObjective(2, 2, negatives=False)(changed, {}).item() == pytest.approx(0)


def naive(student: Tensor, teacher: Tensor, kl: bool) -> Tensor:
    """Pair by pair, and row by row."""
    terms = []
    for own, target in zip(student, teacher, strict=True):
        for i in range(len(own)):
            rows = []
            for tokens in (own, target):
                products = torch.stack(
                    [tokens[i] @ tokens[j] / (tokens[i].norm() * tokens[j].norm()) for j in range(len(own))]
                )
                rows.append(products)
            if kl:
                p, q = (torch.exp(row / 0.5) / torch.exp(row / 0.5).sum() for row in rows)
                terms.append((q * torch.log(q / p)).sum())
            else:
                terms.append((rows[0] - rows[1]).square().mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("head", [None, dict(type="DistillHead")], ids=["unmapped", "mapped"])
@pytest.mark.parametrize("loss", [None, KL], ids=["squared", "divergence"])
def test_value_and_gradients_equal_a_naive_reference(loss: dict | None, head: dict | None) -> None:
    torch.manual_seed(0)
    objective = PatchRelationObjective(student_dim=3, teacher_dim=5, loss=loss, head=head)
    tokens = {name: torch.randn(2, 1 + 6, width).requires_grad_() for name, width in (("s", 3), ("t", 5), ("m", 3))}
    teacher, student, masked = (Features(tokens[n][:, 0], tokens[n][:, 1:], (2, 3)) for n in ("t", "s", "m"))
    found = objective(StepFeatures(dataclasses.replace(teacher, patches=teacher.patches.detach()), student, masked), {})
    expected = naive(objective.head(student.patches), teacher.patches.detach(), kl=loss is not None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    learnt = [tokens["s"], *objective.parameters()]
    for one, other in zip(torch.autograd.grad(found, learnt), torch.autograd.grad(expected, learnt), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    again = objective(StepFeatures(teacher, student, masked), {})
    assert torch.autograd.grad(again, tokens["m"], allow_unused=True) == (None,)
    # The cls token reaches nothing.
    assert (
        torch.autograd.grad(objective(StepFeatures(teacher, student, masked), {}), tokens["s"])[0][:, 0].abs().max()
        == 0
    )


def test_similarities_are_computed_in_full_precision_under_autocast(step: StepFeatures) -> None:
    tokens = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(0))
    features = [Features(each[:, 0], each, (5, 10)) for each in (tokens, tokens + 0.05)]
    objective = PatchRelationObjective(64, 64)
    expected = objective(StepFeatures(*features), {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective(StepFeatures(*features), {})
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_a_rotation_of_all_tokens_changes_nothing() -> None:
    torch.manual_seed(0)
    patches, rotation = torch.randn(2, 6, 4), torch.linalg.qr(torch.randn(4, 4))[0]
    features = [Features(each[:, 0], each, (2, 3)) for each in (patches, 3 * patches @ rotation)]
    assert PatchRelationObjective(4, 4)(StepFeatures(*features), {}).item() == pytest.approx(0, abs=1e-10)


def test_a_loss_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"PatchRelationObjective\.loss=StandardizedMSELoss .*RelationKLLoss"):
        PatchRelationObjective(2, 2, loss=dict(type="StandardizedMSELoss"))
