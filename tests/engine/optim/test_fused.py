import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from proteus.apis import load_config


def optimized(fused: bool, steps: int = 5) -> nn.Module:
    """A small model after steps of the recipe's optimizer."""
    cfg = load_config("configs/proteus/vit-s_dinov2-b.py")
    assert cfg.optim_wrapper.optimizer.fused is True  # the default
    cfg.optim_wrapper.optimizer.fused = fused
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    with DefaultScope.overwrite_default_scope("proteus"):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert len(wrapper.optimizer.param_groups) == 2  # with and without weight decay
    for _ in range(steps):
        wrapper.update_params(model(torch.randn(4, 6)).square().mean())
    return model


def test_the_fused_kernel_makes_the_plain_steps() -> None:
    for found, expected in zip(optimized(True).parameters(), optimized(False).parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
