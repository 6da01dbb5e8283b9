from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from proteus.evaluation.online.eval_mode import eval_mode


def states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_no_trace_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(4)))
    model.train()
    model[3][0].eval()  # a part that is frozen in training
    before, buffers = states(), {name: value.clone() for name, value in model.state_dict().items()}
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.randn(8, 4)).requires_grad
        random.random(), np.random.rand(), torch.rand(3)
    assert states() == before
    assert [module.training for module in model.modules()] == [True, True, True, True, True, False]
    assert all(torch.equal(value, buffers[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_nor_by_an_error() -> None:
    model, before = nn.Dropout(), states()
    with pytest.raises(RuntimeError, match="negative"), eval_mode(model):
        torch.rand(3).repeat_interleave(torch.tensor([-1]))
    assert states() == before
    assert model.training


def test_what_is_drawn_is_the_same_each_time() -> None:
    drawn = []
    for _ in range(2):
        torch.rand(1)
        with eval_mode(nn.Identity()):
            drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
    assert drawn[0] == drawn[1]
