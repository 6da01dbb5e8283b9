import torch
from torch import nn

from proteus.models import CosineLoss, Objective, StepFeatures, TokenObjective


def test_head_and_loss_come_from_the_config(step: StepFeatures) -> None:
    objective = TokenObjective(2, 2, head=dict(type="DistillHead"), loss=dict(type="CosineLoss"), weight=0.5)
    assert isinstance(objective.loss, CosineLoss)
    assert objective.weight == 0.5
    head = objective.head(step.student.cls)
    expected = 1 - nn.functional.cosine_similarity(head, step.teacher.cls).mean()
    # The weight is the distiller's business.
    torch.testing.assert_close(objective(step, {}), expected)


def test_widths_of_student_and_teacher_may_differ() -> None:
    objective = TokenObjective(student_dim=3, teacher_dim=5)
    assert (objective.head[0].normalized_shape, objective.head[1].weight.shape) == ((3,), (5, 3))


def test_losses_are_computed_in_full_precision_under_autocast(step: StepFeatures) -> None:
    objective = TokenObjective(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert objective.head(step.student.cls).dtype == torch.bfloat16
        term = objective(step, {})
    assert term.dtype == torch.float32
    # Targets near 256 would be rounded to whole numbers in bfloat16.
    prediction, target = torch.tensor([[256.0]]), torch.tensor([[256.25]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Objective.compare(objective, nn.Identity(), prediction, target).item() == 0.0625
