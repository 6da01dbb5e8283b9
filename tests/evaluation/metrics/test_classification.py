import pytest
import torch

from proteus.evaluation.metrics import Top1Accuracy
from proteus.structures import DataError

LOGITS = torch.tensor([[5.0, 1.0, 2.0, 0.0], [5.0, 1.0, 0.0, 2.0], [1.0, 4.0, 3.0, 2.0], [0.0, 9.0, 1.0, 2.0]])


def samples(*labels: int) -> list[dict]:
    return [
        {"label": label, "logits": logits, "img_path": f"{i}.jpg", "corrupt": []}
        for i, (label, logits) in enumerate(zip(labels, LOGITS, strict=False))
    ]


def test_all_classes() -> None:
    metric = Top1Accuracy()
    metric.process(None, samples(0, 0, 2, 1))
    assert metric.evaluate(4) == {"accuracy/top1": 75.0}


def test_a_restriction_to_some_classes() -> None:
    metric = Top1Accuracy(classes=[3, 2])
    # Restricted to 2 and 3 the predictions are 2, 3, 2, 3, whatever the scores of 0 and 1.
    metric.process(None, samples(2, 3, 3, 3))
    assert metric.evaluate(4) == {"accuracy/top1": 75.0}


@pytest.mark.parametrize(
    ("classes", "labels", "words"),
    [
        ([2, 3], (2, 0), r"1\.jpg has label 0, which is not among the 2 classes"),
        (None, (0, 4), r"1\.jpg has label 4, which is not among the 4 classes"),
        ([2, 7], (2, 2), "names class 7, but the model has 4 classes"),
    ],
)
def test_labels_in_another_numbering_raise(classes: list[int] | None, labels: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Top1Accuracy(classes=classes).process(None, samples(*labels))


def test_a_corrupt_image_raises() -> None:
    sample = {**samples(0)[0], "corrupt": ["val/x.jpg (not an image file)"]}
    with pytest.raises(DataError, match=r"val/x\.jpg"):
        Top1Accuracy().process(None, [sample])


@pytest.mark.parametrize("classes", [[], [1, 1], [-1], "imagenet_x"])
def test_invalid_classes_raise(classes: list[int] | str) -> None:
    with pytest.raises(ValueError, match=r"Top1Accuracy\.classes="):
        Top1Accuracy(classes=classes)
