"""What is frozen stays as it is, whatever the model around it does."""

from __future__ import annotations

import torch
from torch import nn

from proteus.models.backbones.frozen import Freezable


class Part(Freezable):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_no_weight_and_no_statistic_moves() -> None:
    part = Part()
    model = nn.ModuleDict({"part": part, "head": nn.Conv2d(4, 1, 1)})
    part.freeze()
    before = {name: value.clone() for name, value in part.state_dict().items()}
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    model.train()
    assert not any(module.training for module in part.modules())
    assert model["head"].training
    found = [part.layers(images) for _ in range(2)]
    assert torch.equal(*found)  # no dropout
    model["head"](found[0]).sum().backward()
    assert model["head"].weight.grad is not None
    assert all(parameter.grad is None for parameter in part.parameters())
    assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())


def test_what_is_not_frozen_trains_as_any_module() -> None:
    part = Part()
    assert part.train() is part
    assert all(module.training for module in part.modules())
    assert not any(module.training for module in part.eval().modules())
    assert all(parameter.requires_grad for parameter in part.parameters())
    part.freeze()
    assert part.train() is part
