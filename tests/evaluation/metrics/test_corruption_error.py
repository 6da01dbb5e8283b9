from typing import Any

import pytest
import torch

from proteus.evaluation.metrics import CorruptionError
from proteus.evaluation.scores import ALEXNET_ERRORS


def part(corruption: str, severity: int, right: int, wrong: int) -> list[dict[str, Any]]:
    """Make images of class 1 of three, ``right`` of them classified correctly."""
    answers = [1] * right + [2] * wrong
    return [
        {
            "img_path": f"{corruption}/{severity}/{i}",
            "label": 1,
            "corruption": corruption,
            "severity": severity,
            "logits": torch.nn.functional.one_hot(torch.tensor(answer), 3).float(),
        }
        for i, answer in enumerate(answers)
    ]


def evaluate(samples: list[dict[str, Any]]) -> tuple[dict[str, float], CorruptionError]:
    metric = CorruptionError()
    metric.dataset_meta = {"source": "ImageNet-C as released"}
    for start in range(0, len(samples), 7):  # batches across corruptions
        metric.process(None, samples[start : start + 7])
    return metric.evaluate(len(samples)), metric


def everything() -> list[dict[str, Any]]:
    """Make 5 images at each severity s, s - 1 of them wrong: errors 0, 0.2, ..., 0.8, mean 0.4; fog has none wrong."""
    return [
        sample
        for corruption in ALEXNET_ERRORS
        for severity in range(1, 6)
        for sample in part(corruption, severity, *((5, 0) if corruption == "fog" else (6 - severity, severity - 1)))
    ]


def test_mce_by_hand() -> None:
    found, metric = evaluate(everything())
    # 100/15 times the sum of 0.4 / AlexNet over all but fog (0.819324).
    inverse = sum(
        1 / error
        for error in (
            0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572,
            0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
        )
    )  # fmt: skip
    assert found["imagenet-c/mCE"] == pytest.approx(100 / 15 * 0.4 * inverse)
    assert found["imagenet-c/snow"] == pytest.approx(40)
    assert found["imagenet-c/fog"] == 0
    assert len(found) == 16
    assert metric.summary.endswith(f"mCE {found['imagenet-c/mCE']:.2f} (AlexNet: 100)")


def test_alexnet_scores_100() -> None:
    # Exact errors would need a thousand images; here each is rounded to 1 in 50.
    samples, expected = [], 0.0
    for corruption, error in ALEXNET_ERRORS.items():
        wrong = round(50 * error)
        expected += 100 / 15 * wrong / 50 / error
        for severity in range(1, 6):
            samples += part(corruption, severity, 50 - wrong, wrong)
    found, _ = evaluate(samples)
    assert found["imagenet-c/mCE"] == pytest.approx(expected)
    assert found["imagenet-c/mCE"] == pytest.approx(100, abs=1)


def test_missing_corruptions_are_listed_instead_of_the_mce() -> None:
    samples = [
        s for s in everything() if s["corruption"] != "frost" and (s["corruption"], s["severity"]) != ("snow", 4)
    ]
    found, metric = evaluate(samples)
    assert "imagenet-c/mCE" not in found
    assert "imagenet-c/frost" not in found
    assert "imagenet-c/snow" not in found
    assert found["imagenet-c/snow/5"] == pytest.approx(80)
    assert found["imagenet-c/pixelate"] == pytest.approx(40)
    summary = metric.summary
    assert "no mCE, which needs 15 corruptions at 5 severities; missing: snow 4, frost 1, frost 2" in summary
    assert summary.startswith(
        "ImageNet-C as released, 5 images per corruption and severity: top-1 errors in per cent\n"
    )
    rows = {line.split()[0]: line.split()[1:] for line in summary.splitlines()[2:-1]}
    assert rows["snow"] == ["0.0", "20.0", "40.0", "-", "80.0", "-", "-"]
    assert rows["jpeg_compression"] == ["0.0", "20.0", "40.0", "60.0", "80.0", "40.0", "66.0"]
    assert rows["frost"] == ["-"] * 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": "haze"}, r"snow/1/0 has corruption 'haze' and severity 1, which ImageNet-C lacks"),
        ({"corruption": None}, r"PackInputs', keys=\('corruption', 'severity'\)"),
        ({"severity": 6}, r"corruption 'snow' and severity 6"),
        ({"label": 3}, r"snow/1/0 has label 3; the model has 3 classes"),
        ({"logits": torch.tensor([0.0, float("nan"), 1.0])}, "snow/1/0: logits has values that are NaN or infinite"),
        ({"corrupt": ["a.JPEG (OSError)"]}, r"cannot be read: a\.JPEG"),
    ],
)
def test_invalid_samples_raise(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorruptionError().process(None, [{**part("snow", 1, 1, 0)[0], **change}])


def test_a_sample_without_scores_or_label_raises() -> None:
    sample = part("snow", 1, 1, 0)[0]
    for key in ("logits", "label"):
        with pytest.raises(ValueError, match=key):
            CorruptionError().process(None, [{name: value for name, value in sample.items() if name != key}])
