from __future__ import annotations

from typing import Any

import pytest
import torch
from depth_models import WIDTHS, make_levels, randomise

from proteus.models import DPTDepthHead


def make_head(**options: Any) -> DPTDepthHead:
    torch.manual_seed(0)
    return DPTDepthHead(32, WIDTHS, 16, norm=None, **options)


def test_a_linear_output_may_be_negative_and_is_not_clamped() -> None:
    head = make_head().eval()
    randomise(head)
    depth = head.predict(make_levels((4, 4)), (32, 32))
    assert depth.min() < 0 < depth.max()


def test_a_conv_output_is_positive_and_clamped_in_prediction_only() -> None:
    head = make_head(output="conv", min_depth=0.1, max_depth=0.2).eval()
    randomise(head)
    levels = make_levels((4, 4))
    trained, predicted = head(levels), head.predict(levels, (64, 64))
    assert trained.shape == (2, 64, 64)
    assert trained.min() >= 0.1
    assert trained.max() > 0.2
    torch.testing.assert_close(predicted, trained.clamp(0.1, 0.2))


@pytest.mark.parametrize("output", ["linear", "conv"])
def test_training_may_start_from_a_typical_depth(output: str) -> None:
    levels = make_levels((4, 4))
    typical, released = (make_head(output=output, initial_depth=depth).eval() for depth in (2.5, 0.0))
    depth = released(levels)
    above = depth > released.min_depth if output == "conv" else torch.ones_like(depth, dtype=torch.bool)
    shift = typical.conv_depth.bias - released.conv_depth.bias
    torch.testing.assert_close(typical(levels)[above], depth[above] + shift)
    assert typical.conv_depth.bias.item() == 2.5
    assert above.any()


def test_depth_is_float32_under_autocast() -> None:
    head = make_head()
    with torch.autocast("cpu", torch.bfloat16):
        depth = head(make_levels((4, 4)))
    assert depth.dtype == torch.float32
    assert depth.requires_grad
    # More than bfloat16's 8 bits of it are used.
    assert (depth.bfloat16().float() != depth).any()


def test_channels_are_dropped_in_training_only() -> None:
    head = make_head(dropout_ratio=0.9)
    levels = make_levels((4, 4))
    assert not torch.equal(head(levels), head(levels))
    head.eval()
    assert torch.equal(head(levels), head(levels))


def test_losses_are_compared_at_the_truths_size_and_added_under_their_names() -> None:
    head = make_head(loss_decode=[{"type": "SiLogLoss"}, {"type": "GradientLoss", "loss_weight": 0.5}]).eval()
    head.conv_depth.bias.data.fill_(2.0)
    levels = make_levels((4, 4))
    target = 3 * torch.rand(2, 56, 50)
    losses = head.losses(levels, target)
    assert set(losses) == {"loss_silog", "loss_gradient"}
    depth = head.predict(levels, (56, 50))
    torch.testing.assert_close(losses["loss_silog"], head.loss_decode["silog"](depth, target))
    torch.testing.assert_close(losses["loss_gradient"], head.loss_decode["gradient"](depth, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout_type": "sum"}, "readout_type='sum'.*'project'"),
        ({"norm": "LN"}, "norm='LN'.*'SyncBN'"),
        ({"output": "bins"}, "output='bins'"),
        ({"max_depth": 1e-4}, "max_depth=0.0001"),
        ({"loss_decode": []}, "at least one loss"),
        ({"loss_decode": [{"type": "SiLogLoss"}] * 2}, "none twice"),
        ({"loss_decode": {"type": "SigLoss"}}, "SigLoss takes the logarithm.*output='conv'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTDepthHead(32, WIDTHS, 16, **options)
    with pytest.raises(ValueError, match="four widths"):
        DPTDepthHead(32, WIDTHS[:3])
