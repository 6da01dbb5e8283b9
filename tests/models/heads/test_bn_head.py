from typing import Any

import pytest
import torch
from mmengine.registry import init_default_scope

pytest.importorskip("mmseg")
from proteus.models.heads.bn_head import BNHead


def test_batch_norm_and_a_1x1_convolution() -> None:
    init_default_scope("mmseg")  # mmseg looks its losses up there
    torch.manual_seed(0)
    head: Any = BNHead([4, 6], [0, 2], num_classes=5, dropout_ratio=0.0, norm_cfg={"type": "BN"})
    maps = (torch.randn(3, 4, 8, 8), torch.randn(3, 9, 8, 8), 5 + 3 * torch.randn(3, 6, 8, 8))
    features = torch.cat([maps[0], maps[2]], dim=1)
    mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3), unbiased=False)
    standardised = (features - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    expected = torch.einsum("bchw,kc->bkhw", standardised, head.conv_seg.weight[:, :, 0, 0])
    torch.testing.assert_close(head(maps), expected + head.conv_seg.bias[:, None, None])
    assert sum(parameter.numel() for parameter in head.parameters()) == 2 * 10 + 5 * 10 + 5


def test_dropout_before_the_batch_norm() -> None:
    init_default_scope("mmseg")
    torch.manual_seed(0)
    head: Any = BNHead([6], [0], num_classes=3, dropout_ratio=0.5, dropout_first=True, norm_cfg={"type": "BN"})
    maps = 1 + torch.rand(64, 6, 4, 4)
    seen: list[torch.Tensor] = []
    head.bn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head((maps,))
    dropped = (seen[0] == 0).flatten(2).all(dim=2)
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(seen[0][~dropped], 2 * maps[~dropped])
    head.eval()
    head((maps,))
    assert torch.equal(seen[1], maps)
