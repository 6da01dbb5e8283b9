from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from proteus.datasets import ImageFolder, LoadImage, PackInputs, ToTensor
from proteus.evaluation import TeacherAgreement
from proteus.evaluation.metrics.teacher_agreement import centered_cosine


def samples(student: torch.Tensor, teacher: torch.Tensor) -> list[dict]:
    """Split ``(B, 1 + N, D)``, cls token first, into samples."""
    return [
        {"student_cls": s[0], "student_patches": s[1:], "teacher_cls": t[0], "teacher_patches": t[1:], "img_path": "x"}
        for s, t in zip(student, teacher, strict=True)
    ]


def evaluate(student: torch.Tensor, teacher: torch.Tensor, **options) -> dict[str, float]:
    metric = TeacherAgreement(**options)
    for start in range(0, len(student), 2):  # in batches
        metric.process({}, samples(student[start : start + 2], teacher[start : start + 2]))
    return metric.evaluate(len(student))


@pytest.fixture
def teacher() -> torch.Tensor:
    """Tokens with a large common mean, like a foundation model's."""
    torch.manual_seed(0)
    return torch.randn(6, 10, 8) + 5


def test_a_perfect_prediction_scores_1_and_a_constant_0(teacher: torch.Tensor) -> None:
    assert evaluate(teacher, teacher) == pytest.approx({"centered_cosine/cls": 1, "centered_cosine/patch": 1}, abs=1e-3)
    constant = teacher.mean((0, 1), keepdim=True).expand_as(teacher)
    found = evaluate(constant, teacher)
    assert abs(found["centered_cosine/patch"]) < 0.05
    # The plain cosine of the same constant is high.
    assert torch.cosine_similarity(constant, teacher, dim=-1).mean() > 0.95


def test_centered_cosine_by_hand() -> None:
    target = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 3.0], [1.0, -1.0]])  # mean (1, 1)
    prediction = torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 0.0], [2.0, 0.0]])
    # Angles about (1, 1): 0, 90, 180 and 45 degrees.
    assert centered_cosine(prediction, target) == pytest.approx((1 + 0 - 1 + 0.5**0.5) / 4, abs=1e-6)


def test_the_better_student_scores_higher(teacher: torch.Tensor) -> None:
    noise = torch.randn_like(teacher)
    scores = [evaluate(teacher + scale * noise, teacher)["centered_cosine/patch"] for scale in (0.3, 1.0, 3.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9


def test_patches_are_evenly_spaced(teacher: torch.Tensor) -> None:
    spoilt = teacher.clone()
    spoilt[:, 2:-1] = torch.randn_like(spoilt[:, 2:-1])  # all patches but the first and the last
    assert evaluate(spoilt, teacher, patches_per_image=2)["centered_cosine/patch"] == pytest.approx(1, abs=1e-3)
    assert evaluate(spoilt, teacher)["centered_cosine/patch"] < 0.5


def test_only_predicted_tokens_are_compared(teacher: torch.Tensor) -> None:
    metric = TeacherAgreement()
    for sample in samples(teacher, teacher):
        metric.process({}, [{key: value for key, value in sample.items() if key != "student_patches"}])
    assert set(metric.evaluate(len(teacher))) == {"centered_cosine/cls"}


def test_an_image_that_was_replaced_is_left_out_and_logged_once(
    teacher: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    images = ImageFolder(data_root=str(tmp_path), pipeline=[LoadImage(), ToTensor(), PackInputs()])
    student = teacher + torch.randn_like(teacher)
    found = [
        {**tokens, **images[index]["data_samples"].metainfo} for index, tokens in enumerate(samples(student, teacher))
    ]
    metric, others = TeacherAgreement(), [0, 2, 3, 4, 5]
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(2):
            metric.process({}, found)
            assert metric.evaluate(6) == evaluate(student[others], teacher[others])
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        f"TeacherAgreement: skipping an unreadable image: {tmp_path / '1.png'}"
    ]
