from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import nn

from proteus.apis import ConfigError, validate
from proteus.engine import OneCycleLR
from proteus.registry import PARAM_SCHEDULERS

CYCLE = {"eta_max": 1e-2, "total_steps": 20, "pct_start": 0.3, "div_factor": 25, "final_div_factor": 100}


def build(*rates: float) -> tuple[torch.optim.Optimizer, Any]:
    init_default_scope("proteus")
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    wrapper = OptimWrapper(torch.optim.AdamW(groups))
    config = {"type": "OneCycleLR", "by_epoch": False, **CYCLE}
    return wrapper.optimizer, PARAM_SCHEDULERS.build(config, default_args={"optimizer": wrapper})


def run(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_it_is_torchs_cycle_for_every_group() -> None:
    optimizer, scheduler = build(1e-2, 1e-3)
    assert isinstance(scheduler, OneCycleLR)
    other = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    names = {"max_lr" if key == "eta_max" else key: value for key, value in CYCLE.items()}
    torchs = torch.optim.lr_scheduler.OneCycleLR(other, cycle_momentum=False, **names)
    expected = [rate for (rate,) in run(other, torchs, 19)]
    assert run(optimizer, scheduler, 19) == [[pytest.approx(rate)] * 2 for rate in expected]


def test_its_state_is_data_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    optimizer, scheduler = build(1e-2)
    run(optimizer, scheduler, 9)
    torch.save({"optimizer": optimizer.state_dict(), "schedule": scheduler.state_dict()}, tmp_path / "state.pth")
    unbroken = run(optimizer, scheduler, 8)
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    again, resumed = build(1e-2)
    again.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    assert run(again, resumed, 8) == unbroken


def test_a_misspelt_key_is_found() -> None:
    config = {"default_scope": "proteus", "param_scheduler": {"type": "OneCycleLR", "eta_mx": 1e-4, "total_steps": 5}}
    with pytest.raises(ConfigError, match=r"eta_mx.*eta_max"):
        validate(config)
