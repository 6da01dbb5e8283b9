from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from proteus.evaluation.metrics import DepthMetric
from proteus.evaluation.metrics.depth import NAMES, crop_mask
from proteus.structures import DataError


def evaluate(*pairs: tuple[torch.Tensor, torch.Tensor], **options: Any) -> dict[str, float]:
    metric = DepthMetric(**{"crop": None, **options})
    metric.process({}, [{"depth": depth, "gt_depth": target, "img_path": "a.jpg"} for depth, target in pairs])
    return metric.evaluate(len(pairs))


def test_nine_errors_by_hand() -> None:
    target = torch.tensor([[1.0, 2.0, 4.0, 5.0]])
    depth = torch.tensor([[1.2, 2.0, 2.0, 8.0]])
    values = evaluate((depth, target))
    logs = [math.log(1.2), 0.0, math.log(0.5), math.log(1.6)]
    square, mean = sum(x * x for x in logs) / 4, sum(logs) / 4
    # Ratios 1.2, 1, 2, 1.6 against 1.25, 1.5625, 1.953.
    expected = {
        "d1": 0.5,
        "d2": 0.5,
        "d3": 0.75,
        "abs_rel": (0.2 + 0 + 0.5 + 0.6) / 4,
        "sq_rel": (0.04 + 0 + 1 + 9 / 5) / 4,
        "rmse": math.sqrt((0.04 + 0 + 4 + 9) / 4),
        "rmse_log": math.sqrt(square),
        "log10": (math.log10(1.2) + math.log10(2) + math.log10(1.6)) / 4,
        "silog": math.sqrt(square - 0.5 * mean**2),
    }
    assert list(values) == [f"depth/{name}" for name in NAMES]
    assert values == pytest.approx({f"depth/{name}": value for name, value in expected.items()}, abs=1e-6)
    toolbox = evaluate((depth, target), silog_lambda=1.0, silog_scale=100.0)
    assert toolbox["depth/silog"] == pytest.approx(100 * math.sqrt(square - mean**2), abs=1e-4)


def test_images_are_weighted_equally() -> None:
    few, many = torch.zeros(4, 4), torch.ones(4, 4)
    few[0, 0] = 1.0
    values = evaluate((few + 0.5, few), (many + 0.1, many))
    assert values["depth/rmse"] == pytest.approx((0.5 + 0.1) / 2)


def test_only_pixels_in_range_count() -> None:
    target = torch.tensor([[0.0, 1e-3, 10.0, 12.0, float("nan"), float("inf"), 2.0]])
    depth = torch.tensor([[9.0, 9.0, 0.1, 0.1, 5.0, 5.0, 2.5]])
    assert evaluate((depth, target))["depth/rmse"] == pytest.approx(0.5)
    depth[0, :6] = float("nan")
    assert evaluate((depth, target))["depth/rmse"] == pytest.approx(0.5)


def test_predictions_are_clamped_only_with_clamp() -> None:
    target, depth = torch.tensor([[8.0, 8.0]]), torch.tensor([[14.0, 8.0]])
    assert evaluate((depth, target))["depth/rmse"] == pytest.approx(math.sqrt(18))
    assert evaluate((depth, target), clamp=True)["depth/rmse"] == pytest.approx(math.sqrt(2))


def test_non_positive_predictions_are_wrong() -> None:
    values = evaluate((torch.tensor([[-3.0, 0.0]]), torch.tensor([[3.0, 3.0]])))
    assert values["depth/d1"] == values["depth/d3"] == 0
    assert values["depth/rmse_log"] == pytest.approx(math.log(3000), abs=1e-5)
    assert values["depth/rmse"] == pytest.approx(math.sqrt((36 + 9) / 2))


def test_crops() -> None:
    target = torch.ones(480, 640)
    eigen = crop_mask(target, "eigen")
    rows, columns = eigen.any(1).nonzero(), eigen.any(0).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    assert eigen.sum() == 426 * 560
    garg = crop_mask(torch.ones(352, 1216), "garg")  # KITTI's: rows 143 to 348, columns 43 to 1171
    rows, columns = garg.any(1).nonzero(), garg.any(0).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (143, 348, 43, 1171)
    assert crop_mask(target, None).all()
    outside = torch.where(eigen, 1.0, 5.0)
    assert evaluate((outside, target), crop="eigen")["depth/rmse"] == 0


@pytest.mark.parametrize("crop", [None, "eigen"])
def test_errors_equal_mmseg(crop: str | None) -> None:
    pytest.importorskip("prettytable")
    reference = pytest.importorskip("mmseg.evaluation.metrics.depth_metric").DepthMetric(
        min_depth_eval=1e-3, max_depth_eval=10.0, crop_type="nyu_crop" if crop else None
    )
    torch.manual_seed(0)
    pairs = [(11 * torch.rand(480, 640) + 1e-2, 11 * torch.rand(480, 640)) for _ in range(3)]
    samples = [{"pred_depth_map": {"data": p[None]}, "gt_depth_map": {"data": t[None]}} for p, t in pairs]
    reference.process({}, samples)
    expected = reference.compute_metrics(reference.results)
    values = evaluate(*pairs, crop=crop)
    assert values == pytest.approx({f"depth/{name}": value for name, value in expected.items()}, rel=1e-4)


def test_unusable_ground_truth_raises() -> None:
    metric = DepthMetric()
    with pytest.raises(DataError, match=r"a\.jpg: ground truth of 4x4 px.*write crop=None .* in val_evaluator"):
        metric.process({}, [{"depth": torch.ones(4, 4), "gt_depth": torch.ones(4, 4), "img_path": "a.jpg"}])
    with pytest.raises(DataError, match=r"a\.jpg has no ground-truth depth between 0\.001 and 10\.0 m.*depth_scale"):
        evaluate((torch.ones(4, 4), 1000 * torch.ones(4, 4)))
    with pytest.raises(DataError, match="has no ground-truth depth, which"):
        metric.process({}, [{"depth": torch.ones(4, 4), "img_path": "a.jpg"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "nyu"}, "crop='nyu'.*'eigen'"),
        ({"max_depth": 0}, "max_depth=0"),
        ({"silog_lambda": 2}, "silog_lambda"),
    ],
)
def test_invalid_arguments_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthMetric(**options)
