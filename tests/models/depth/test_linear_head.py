"""DINOv3's linear depth head against its formula, and in the estimator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from depth_models import estimator_config, make_levels

from proteus.models import DepthEstimator, LinearDepthHead


def test_depth_is_the_weighted_mean_of_the_bins() -> None:
    torch.manual_seed(0)
    head = LinearDepthHead(32, bins=3, norm="BN", min_depth=1.0, max_depth=5.0)
    torch.nn.init.normal_(head.conv_depth.weight)
    level = make_levels((2, 3))[0]
    tokens = level.patches
    standardised = (tokens - tokens.mean((0, 1))) / (tokens.var((0, 1), unbiased=False) + 1e-5).sqrt()
    weights = (standardised @ head.conv_depth.weight[:, :, 0, 0].T).clamp(min=0) + 0.1
    expected = (weights * torch.tensor([1.0, 3.0, 5.0])).sum(2) / weights.sum(2)
    torch.testing.assert_close(head([level]), expected.view(2, 2, 3))
    assert set(head.state_dict()) >= {"conv_depth.weight", "conv_depth.bias", "norm.weight"}
    assert "centers" not in head.state_dict()


def test_depth_starts_in_the_middle_and_stays_within_the_bins() -> None:
    head = LinearDepthHead(32, norm=None)
    torch.nn.init.zeros_(head.conv_depth.weight)
    levels = make_levels((2, 2))[:1]
    torch.testing.assert_close(head(levels), torch.full((2, 2, 2), (1e-3 + 10) / 2))
    torch.nn.init.normal_(head.conv_depth.weight, std=100)
    assert 1e-3 <= head(levels).min() < head(levels).max() <= 10
    with torch.autocast("cpu", torch.bfloat16):
        assert head(levels).dtype == torch.float32
    assert head.predict(levels, (28, 42)).shape == (2, 28, 42)


def test_an_estimator_trains_it_on_the_last_block() -> None:
    torch.manual_seed(0)
    config = estimator_config(backbone={"out_indices": (3,), "final_norm": True}, freeze_backbone=True)
    config["decode_head"] = {"type": "LinearDepthHead", "embed_dims": 32, "bins": 16, "norm": "BN"}
    model = DepthEstimator(**config)
    images, depths = torch.randn(2, 3, 28, 28), 1 + 3 * torch.rand(2, 28, 28)
    losses = model(images, depths, mode="loss")
    assert set(losses) == {"loss_depth"}
    losses["loss_depth"].backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        f"decode_head.{name}" for name in ("norm.weight", "norm.bias", "conv_depth.weight", "conv_depth.bias")
    }
    config["backbone"]["out_indices"] = (2, 3)
    with pytest.raises(ValueError, match="the head reads 1 block"):
        DepthEstimator(**config)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"bins": 1}, "decode_head.bins"),
        ({"norm": "LN"}, r"decode_head\.norm='LN'"),
        ({"min_depth": 0}, "0 < min_depth < max_depth"),
        ({"max_depth": 1e-4}, "0 < min_depth < max_depth"),
        ({"loss_decode": []}, "at least one loss"),
    ],
)
def test_invalid_arguments_raise(option: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LinearDepthHead(32, **option)
