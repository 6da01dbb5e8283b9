import math

import pytest
import torch
from torch import Tensor, nn

from proteus.models import CrossEntropyLoss, HardLogitsLoss, SoftLogitsLoss

# Of two classes: the student is undecided, then for the first; the teacher is 3 : 1 for the first, then undecided.
STUDENT = torch.tensor([[0.0, 0.0], [math.log(4.0), 0.0]])
TEACHER = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]])


def test_soft_logits_worked_by_hand() -> None:
    # Student (1/2, 1/2) and (4/5, 1/5), teacher (3/4, 1/4) and (1/2, 1/2);
    # the sum of p' log(p' / p) over 2 images x 2 classes.
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    second = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert SoftLogitsLoss()(STUDENT, TEACHER).item() == pytest.approx((first + second) / 4, rel=1e-5)


def test_temperature_worked_by_hand() -> None:
    # Halved logits: student (1/2, 1/2) and (2/3, 1/3), teacher sqrt(3) : 1 and (1/2, 1/2); times T^2 = 4.
    share = math.sqrt(3) / (1 + math.sqrt(3))
    first = share * math.log(2 * share) + (1 - share) * math.log(2 * (1 - share))
    second = 0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3))
    assert SoftLogitsLoss(temperature=2.0)(STUDENT, TEACHER).item() == pytest.approx(first + second, rel=1e-5)


def test_soft_logits_is_a_thousandth_of_the_mean_over_images() -> None:
    student, teacher = torch.randn(2, 3, 1000, generator=torch.Generator().manual_seed(0))
    per_image = nn.KLDivLoss(reduction="batchmean")(student.log_softmax(1), teacher.softmax(1))
    torch.testing.assert_close(SoftLogitsLoss()(student, teacher), per_image / 1000)


def test_hard_logits_are_cross_entropy_with_the_teachers_choice() -> None:
    teacher = torch.tensor([[2.0, 1.0], [0.0, 9.0]])
    # -log 1/2 and -log 1/5.
    expected = (math.log(2) + math.log(5)) / 2
    assert HardLogitsLoss()(STUDENT, teacher).item() == pytest.approx(expected, rel=1e-5)
    # How sure the teacher is does not count.
    torch.testing.assert_close(HardLogitsLoss()(STUDENT, 10 * teacher), HardLogitsLoss()(STUDENT, teacher))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # (p - p') / (B K): twice smaller than per image at two classes.
        (SoftLogitsLoss(), [[-0.25 / 4, 0.25 / 4], [0.3 / 4, -0.3 / 4]]),
        # (p - onehot) / B with the first class chosen for image 0, and for image 1 the first of two equals.
        (HardLogitsLoss(), [[-0.5 / 2, 0.5 / 2], [-0.2 / 2, 0.2 / 2]]),
    ],
    ids=["soft", "hard"],
)
def test_gradients_worked_by_hand(loss: nn.Module, expected: list[list[float]]) -> None:
    student = STUDENT.clone().requires_grad_()
    loss(student, TEACHER).backward()
    assert isinstance(student.grad, Tensor)
    torch.testing.assert_close(student.grad, torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_labels_may_be_classes_or_shares_of_them() -> None:
    by_class = CrossEntropyLoss()(STUDENT, torch.tensor([1, 0]))
    assert by_class.item() == pytest.approx((math.log(2) + math.log(5 / 4)) / 2, rel=1e-5)
    shares = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(CrossEntropyLoss()(STUDENT, shares), by_class)
    # A tenth of each label is spread over both classes: (0.05, 0.95) and (0.95, 0.05).
    smoothed = (math.log(2) + 0.95 * math.log(5 / 4) + 0.05 * math.log(5)) / 2
    for labels in (torch.tensor([1, 0]), shares):
        assert CrossEntropyLoss(label_smoothing=0.1)(STUDENT, labels).item() == pytest.approx(smoothed, rel=1e-5)
