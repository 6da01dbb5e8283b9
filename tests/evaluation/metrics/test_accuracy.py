from pathlib import Path

import pytest
import torch
from PIL import Image

from proteus.datasets import LabelledFolder, LoadImage, PackInputs, ToTensor
from proteus.evaluation.metrics import StudentTeacherAccuracy
from proteus.structures import DataError

SCORES = torch.tensor([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [0.0, 4.0, 3.0]])


def test_top1_of_student_and_teacher() -> None:
    metric = StudentTeacherAccuracy()
    samples = [
        {"label": label, "student_logits": scores, "teacher_logits": -scores}
        for label, scores in zip((1, 0, 2, 0), SCORES, strict=True)
    ]
    metric.process(None, samples)
    # The student predicts 1, 0, 2, 1; the teacher the class with the lowest score: 0, 2, 0, 0.
    assert metric.evaluate(4) == {"accuracy/student": 75.0, "accuracy/teacher": 25.0}


def test_without_a_teacher() -> None:
    metric = StudentTeacherAccuracy()
    metric.process(None, [{"label": 1, "student_logits": SCORES[0]}])
    assert metric.evaluate(1) == {"accuracy/student": 100.0}


@pytest.mark.parametrize("sample", [{"student_logits": SCORES[0]}, {"label": 1, "teacher_logits": SCORES[0]}])
def test_a_sample_without_label_or_scores_raises(sample: dict) -> None:
    with pytest.raises(ValueError, match="labels and class scores"):
        StudentTeacherAccuracy().process(None, [sample])


def test_an_image_that_was_replaced_raises(tmp_path: Path) -> None:
    for name in ("a/good.png", "b/broken.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "b/broken.png").write_bytes(b"no image")
    images = LabelledFolder(data_root=str(tmp_path), pipeline=[LoadImage(), ToTensor(), PackInputs()])
    samples = [{**images[index]["data_samples"].metainfo, "student_logits": SCORES[0]} for index in (0, 1)]
    metric = StudentTeacherAccuracy()
    metric.process(None, samples[:1])
    with pytest.raises(DataError, match=r"an image of the validation set cannot be read: .*broken\.png"):
        metric.process(None, samples[1:])
