import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from proteus.models import StepFeatures, TokenRelationObjective
from proteus.models.objectives import end_step
from proteus.structures import Features

SQUARED = dict(type="MSELoss")


def features(tokens: Tensor) -> Features:
    return Features(tokens, torch.full((len(tokens), 1, tokens.shape[1]), torch.nan), (1, 1))  # patches reach no loss


def batches(steps: int, images: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Cls tokens of teacher and student."""
    generator = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(images, width, generator=generator) for width in (5, 3)) for _ in range(steps)]  # type: ignore[misc]


def naive(student: Tensor, teacher: Tensor, others: list[list[Tensor]], loss: str) -> Tensor:
    """The term from the tokens that each image is compared with, one product at a time."""
    terms = []
    for own, target, columns in zip(student, teacher, others, strict=True):
        rows = [torch.stack([F.cosine_similarity(each, column, dim=0) for column in columns]) for each in (own, target)]
        if loss == "MSELoss":
            terms.append((rows[0] - rows[1]).square().mean())
        else:
            p, q = ((row / 0.07).softmax(0) for row in rows)
            terms.append((q * (q.log() - p.log())).sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("loss", ["MSELoss", "RelationKLLoss"])
@pytest.mark.parametrize("queue_size", [0, 6])
def test_value_and_gradients_equal_a_naive_reference(queue_size: int, loss: str) -> None:
    torch.manual_seed(0)
    objective = TokenRelationObjective(student_dim=3, teacher_dim=5, queue_size=queue_size, loss=dict(type=loss))
    queue: list[Tensor] = []
    for teacher, student in batches(4):
        student.requires_grad_()
        found = objective(StepFeatures(features(teacher), features(student)), {})
        others = [[own, *queue] if queue_size else list(teacher) for own in teacher]
        expected = naive(objective.head(student), teacher, others, loss)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        learnt = [student, *objective.parameters()]
        end_step(objective)  # before the backward pass, as in a training step
        gradients = [torch.autograd.grad(term, learnt) for term in (found, expected)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
        queue = [*teacher, *queue][:queue_size]


def test_by_hand() -> None:
    objective = TokenRelationObjective(2, 2, queue_size=3, loss=SQUARED, head=dict(type=torch.nn.Identity))
    right, up = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    # Alone with its own token: (0 - 1)^2.
    assert objective(StepFeatures(features(right), features(up)), {}).item() == pytest.approx(1)
    end_step(objective)
    # Against (up, right): (1, 0), as the teacher has. The queue holds unit vectors, newest first.
    assert objective(StepFeatures(features(up), features(up)), {}).item() == pytest.approx(0)
    end_step(objective)
    assert objective.queue.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_a_first_step_has_a_gradient_for_every_parameter() -> None:
    objective = TokenRelationObjective(3, 5, queue_size=8)
    ((teacher, student),) = batches(1)
    term = objective(StepFeatures(features(teacher), features(student)), {})
    assert term.item() == pytest.approx(0, abs=1e-6)
    term.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_parts_fill_the_queue_as_the_whole_batch_does() -> None:
    torch.manual_seed(0)
    whole = TokenRelationObjective(3, 5, queue_size=6)
    parts = copy.deepcopy(whole)
    for teacher, student in batches(3):
        expected = whole(StepFeatures(features(teacher), features(student)), {})
        terms = [parts(StepFeatures(features(teacher[i::2]), features(student[i::2])), {}) for i in range(2)]
        torch.testing.assert_close(sum(terms) / 2, expected)
        end_step(whole)
        end_step(parts)
        torch.testing.assert_close(parts.queue, whole.queue)


@pytest.mark.parametrize("steps", [1, 3], ids=["half full", "full"])
def test_the_queue_continues_from_a_checkpoint(steps: int) -> None:
    torch.manual_seed(0)
    objective = TokenRelationObjective(3, 5, queue_size=8)
    *before, (teacher, student) = batches(steps + 1)
    for one, other in before:
        objective(StepFeatures(features(one), features(other)), {})
        end_step(objective)
    resumed = TokenRelationObjective(3, 5, queue_size=8)
    resumed.load_state_dict(copy.deepcopy(objective.state_dict()))
    terms = []
    for each in (objective, resumed):
        terms.append(each(StepFeatures(features(teacher), features(student)), {}))
        end_step(each)
    assert torch.equal(*terms)
    assert torch.equal(objective.queue, resumed.queue)


def test_evaluation_leaves_the_queue() -> None:
    objective = TokenRelationObjective(3, 5, queue_size=8).eval()
    ((teacher, student),) = batches(1)
    objective(StepFeatures(features(teacher), features(student)), {})
    end_step(objective)
    assert objective.queue.abs().max() == 0


def test_a_batch_larger_than_the_queue() -> None:
    objective = TokenRelationObjective(3, 5, queue_size=2)
    for teacher, student in batches(2):
        objective(StepFeatures(features(teacher), features(student)), {})
        end_step(objective)
    torch.testing.assert_close(objective.queue, F.normalize(teacher[:2], dim=-1))


def test_bad_values() -> None:
    with pytest.raises(ValueError, match="queue_size=-1: write a whole number, 0 or more"):
        TokenRelationObjective(2, 2, queue_size=-1)
    with pytest.raises(ValueError, match=r"TokenRelationObjective\.loss=StandardizedMSELoss"):
        TokenRelationObjective(2, 2, loss=dict(type="StandardizedMSELoss"))
