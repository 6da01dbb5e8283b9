import math

import pytest
import torch

from proteus.models import RelationKLLoss


def test_divergence_by_hand() -> None:
    # Softmax of (log 3, 0): 3/4, 1/4. Of (0, 0): 1/2, 1/2. Of two rows, the second is the same on both sides.
    student = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    teacher = torch.tensor([[math.log(3), 0.0], [1.0, 2.0]])
    expected = (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert RelationKLLoss(temperature=1.0)(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_temperatures_divide_their_own_side() -> None:
    student, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).unbind()
    expected = RelationKLLoss(temperature=1.0)(student / 0.2, teacher / 0.04)
    torch.testing.assert_close(RelationKLLoss(0.2, teacher_temperature=0.04)(student, teacher), expected)
    both = RelationKLLoss(temperature=1.0)(student / 0.2, teacher / 0.2)
    torch.testing.assert_close(RelationKLLoss(temperature=0.2)(student, teacher), both)


def test_rows_of_all_images_count_alike() -> None:
    student, teacher = torch.randn(2, 6, 4, 4).unbind()
    loss = RelationKLLoss()
    torch.testing.assert_close(loss(student, teacher), loss(student.flatten(0, 1), teacher.flatten(0, 1)))


@pytest.mark.parametrize("options", [{"temperature": 0}, {"teacher_temperature": -1.0}])
def test_temperatures_are_positive(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RelationKLLoss(**options)
