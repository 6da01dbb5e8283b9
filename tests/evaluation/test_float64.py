"""float64 on devices that lack it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from proteus.evaluation.classifiers.knn import knn_predict
from proteus.evaluation.classifiers.logistic_model import fit
from proteus.evaluation.float64 import float64_device
from proteus.evaluation.metrics import DepthMetric
from proteus.evaluation.online.compare import effective_rank
from proteus.evaluation.online.explained_variance import UnexplainedVariance
from proteus.models.objectives import StepFeatures, TokenObjective
from proteus.structures import Features


class OnMPS(Tensor):
    """A tensor that claims to be on MPS, and refuses float64 as one there does."""

    device = torch.device("mps")

    def double(self) -> Any:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

    def to(self, device: Any) -> Any:
        return self.as_subclass(Tensor).to(device)


@pytest.fixture
def values() -> Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def test_devices_without_float64_are_replaced_by_the_cpu() -> None:
    found = [str(float64_device(device)) for device in ("cpu", "cuda:1", "mps", torch.device("xpu"))]
    assert found == ["cpu", "cuda:1", "cpu", "cpu"]


def test_online_metrics_of_features_on_mps(values: Tensor) -> None:
    assert effective_rank(values.as_subclass(OnMPS)) == effective_rank(values)

    def unexplained(tokens: Tensor) -> dict[str, float]:
        objective = TokenObjective(4, 4)
        objective.head = torch.nn.Identity()
        metric = UnexplainedVariance({"token": objective})
        student, teacher = (Features(cls, cls[:, None], (1, 1)) for cls in (tokens, tokens * 1.5))
        metric.update(StepFeatures(teacher, student))
        return metric.compute()

    assert unexplained(values.as_subclass(OnMPS)) == unexplained(values)


def test_depth_errors_of_maps_on_mps(values: Tensor) -> None:
    def errors(target: Tensor) -> dict[str, float]:
        metric = DepthMetric(crop=None)
        metric.process({}, [{"depth": target * 1.5, "gt_depth": target}])
        return metric.evaluate(1)

    assert errors(values.abs().as_subclass(OnMPS)) == errors(values.abs())


def test_classifiers_of_float64_features_run_on_the_cpu_in_place_of_mps(values: Tensor) -> None:
    features, labels = values.double().numpy(), np.arange(8) % 2
    for dtype in ("float64", "float32"):
        there, here = (fit(features, labels, device=device, dtype=dtype) for device in ("mps", "cpu"))
        np.testing.assert_array_equal(there.weights, here.weights)
    there, here = (knn_predict(features, labels, features, (3,), device=device)[3] for device in ("mps", "cpu"))
    np.testing.assert_array_equal(there, here)
