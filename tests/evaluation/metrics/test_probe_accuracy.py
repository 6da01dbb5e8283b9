import json
from pathlib import Path
from typing import Any

import pytest
import torch

from proteus.evaluation.metrics import ProbeAccuracy
from proteus.models.classifiers import Head
from proteus.structures import DataError

HEADS = tuple(Head(layers, avgpool, lr) for layers in (1, 4) for avgpool in (False, True) for lr in (0.001, 0.1, 1e-5))
# Predictions of each of the twelve heads for four images with labels 0, 1, 2, 2.
PREDICTIONS = [
    *([0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0], [1, 0, 0, 0]),
    *([0, 1, 2, 2], [1, 1, 1, 1], [2, 2, 2, 2], [0, 1, 2, 2]),
    *([0, 0, 2, 2], [1, 2, 0, 1], [0, 1, 1, 2], [2, 1, 2, 0]),
]
RIGHT = [25.0, 50.0, 75.0, 0.0, 100.0, 25.0, 50.0, 100.0, 75.0, 0.0, 75.0, 50.0]


def samples() -> list[dict[str, Any]]:
    columns = torch.tensor(PREDICTIONS).T
    return [
        {"label": label, "head_labels": predictions, "heads": HEADS, "img_path": f"{row}.jpg"}
        for row, (label, predictions) in enumerate(zip((0, 1, 2, 2), columns, strict=True))
    ]


def test_accuracies_of_all_heads_by_hand(tmp_path: Path) -> None:
    metric = ProbeAccuracy()
    metric.process(None, samples()[:3])
    metric.process(None, samples()[3:])
    # Two heads tie: the first wins.
    assert metric.evaluate(4) == {"probe/best": 100.0, "probe/best_head": 4}
    assert metric.grid is not None
    assert metric.grid.accuracies == tuple(RIGHT)
    assert metric.grid.table().splitlines() == [
        "| lr at batch 256 | blocks1 | blocks1_avgpool | blocks4 | blocks4_avgpool |",
        "|---|---|---|---|---|",
        "| 0.001 | 25.00 | 0.00 | 50.00 | 0.00 |",
        "| 0.1 | 50.00 | **100.00** | 100.00 | 75.00 |",
        "| 1e-05 | 75.00 | 25.00 | 75.00 | 50.00 |",
    ]
    metric.grid.write(tmp_path, 1250)
    written = json.loads((tmp_path / "probe_grid.json").read_text())
    assert (written["iteration"], written["best"], written["best_head"]) == (1250, 100.0, "blocks1_avgpool_lr0.1")
    assert [head["accuracy"] for head in written["heads"]] == RIGHT
    assert written["heads"][11] == {
        **{"name": "blocks4_avgpool_lr1e-05", "layers": 4, "avgpool": True, "lr": 1e-5},
        "accuracy": 50.0,
    }
    assert (
        (tmp_path / "probe_grid.md").read_text().startswith("Top-1 in per cent after 1,250 iterations; best: blocks1")
    )


def test_images_repeated_by_the_sampler_do_not_count() -> None:
    metric = ProbeAccuracy()
    metric.process(None, [*samples(), samples()[0]])
    assert metric.evaluate(4)["probe/best"] == 100.0
    assert metric.grid is not None
    assert metric.grid.accuracies == tuple(RIGHT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"corrupt": ["val/n01/x.jpg (OSError: cut short)"]}, r"cannot be read: val/n01/x\.jpg \(OSError"),
        ({"label": None}, r"0\.jpg has no label.*LabelledFolder"),
        ({"head_labels": None}, "'head_labels'.*LinearProbe"),
    ],
)
def test_invalid_samples_raise(change: dict, words: str) -> None:
    sample = {key: value for key, value in {**samples()[0], **change}.items() if value is not None}
    with pytest.raises(DataError, match=words):
        ProbeAccuracy().process(None, [sample])
