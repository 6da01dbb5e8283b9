from __future__ import annotations

import pytest
import torch
from data_samples import data_samples
from depth_models import estimator_config, make_estimator

from proteus.models import DepthFlipTTA, ViT


def test_predictions_are_averaged_with_the_mirror_images() -> None:
    plain, flipped = make_estimator().eval(), make_estimator(test_cfg={"mode": "whole_flip"}).eval()
    data = {"inputs": torch.rand(1, 3, 28, 28), "data_samples": data_samples({})}
    (expected,) = flipped.test_step(data)
    (result,) = DepthFlipTTA(plain).eval().test_step(data)
    assert torch.equal(result["depth"], expected["depth"])
    built = DepthFlipTTA({"type": "DepthEstimator", **estimator_config()})
    assert built.module.test_cfg["flip"]


def test_only_estimators() -> None:
    class NoEstimator(ViT):
        def test_step(self) -> None: ...

    with pytest.raises(TypeError, match="for DepthEstimator, not NoEstimator"):
        DepthFlipTTA(NoEstimator(arch="tiny", depth=1))
