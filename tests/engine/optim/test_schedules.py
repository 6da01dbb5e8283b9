from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from timm.scheduler import CosineLRScheduler
from torch import nn

from proteus.apis import ConfigError, validate
from proteus.engine import DeiTCosineLR, OneCycleLR
from proteus.registry import PARAM_SCHEDULERS

CYCLE = {"eta_max": 1e-2, "total_steps": 20, "pct_start": 0.3, "div_factor": 25, "final_div_factor": 100}
PARAMETERS = {"epochs": 300, "iters_per_epoch": 1251, "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}
# Measured on the released code at a batch of 1024 (docs/reproduction.md#distillation-schedule).
RELEASED = {
    0: 1e-6,
    1: 1e-6,
    2: 2.008e-4,
    3: 4.006e-4,
    4: 6.004e-4,
    5: 8.002e-4,
    6: 9.993e-4,
    150: 5.10e-4,
    299: 1.011e-5,
}


def wrapper(*rates: float) -> OptimWrapper:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return OptimWrapper(torch.optim.AdamW(groups))


def rates(optimizer: OptimWrapper, steps: int, **parameters: float) -> list[float]:
    """Learning rate of each iteration, stepped as ``ParamSchedulerHook`` does: after it."""
    scheduler = DeiTCosineLR(optimizer, **{**PARAMETERS, **parameters})
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.optimizer.step()
        scheduler.step()
    return found


def test_the_released_values() -> None:
    schedule = DeiTCosineLR(wrapper(1e-3), **PARAMETERS)
    for epoch, wanted in RELEASED.items():
        for iteration in (1251 * epoch, 1251 * epoch + 1250):
            assert schedule.value_at(iteration, 1e-3) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("base", [1e-3, 2.5e-4])
def test_every_epoch_equals_timm_stepped_as_deit_does(base: float) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=base)
    timms = CosineLRScheduler(optimizer, t_initial=300, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    found = rates(wrapper(base), 330, iters_per_epoch=1)  # timm's stays at its end beyond 300 epochs
    for epoch in range(330):
        assert found[epoch] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        timms.step(epoch)


def test_constant_within_an_epoch() -> None:
    found = rates(wrapper(1e-3), 40, iters_per_epoch=4)
    assert all(len(set(found[start : start + 4])) == 1 for start in range(0, 40, 4))
    assert len(set(found)) == 9  # the first two epochs are alike


def test_each_group_has_its_own_peak() -> None:
    optimizer = wrapper(1e-3, 5e-4)
    scheduler = DeiTCosineLR(optimizer, **{**PARAMETERS, "iters_per_epoch": 1})
    for _ in range(6):
        optimizer.optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(RELEASED[6], rel=1e-3)
    half = 1e-5 + (5e-4 - 1e-5) * (RELEASED[6] - 1e-5) / (1e-3 - 1e-5)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(half, rel=1e-3)


def test_resuming() -> None:
    whole = rates(wrapper(1e-3), 60, iters_per_epoch=4)
    optimizer = wrapper(1e-3)
    scheduler = DeiTCosineLR(optimizer, **{**PARAMETERS, "iters_per_epoch": 4})
    for _ in range(33):
        optimizer.optimizer.step()
        scheduler.step()
    states = optimizer.state_dict(), scheduler.state_dict()
    resumed = wrapper(1e-3)
    again = DeiTCosineLR(resumed, **{**PARAMETERS, "iters_per_epoch": 4})
    resumed.load_state_dict(states[0])
    again.load_state_dict(states[1])
    found = []
    for _ in range(33, 60):
        found.append(resumed.param_groups[0]["lr"])
        resumed.optimizer.step()
        again.step()
    assert found == whole[33:]


def build_cycle(*rates: float) -> tuple[torch.optim.Optimizer, Any]:
    init_default_scope("proteus")
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    wrapper = OptimWrapper(torch.optim.AdamW(groups))
    config = {"type": "OneCycleLR", "by_epoch": False, **CYCLE}
    return wrapper.optimizer, PARAM_SCHEDULERS.build(config, default_args={"optimizer": wrapper})


def run_steps(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def test_the_cycle_equals_torch_for_every_group() -> None:
    optimizer, scheduler = build_cycle(1e-2, 1e-3)
    assert isinstance(scheduler, OneCycleLR)
    other = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    names = {"max_lr" if key == "eta_max" else key: value for key, value in CYCLE.items()}
    reference = torch.optim.lr_scheduler.OneCycleLR(other, cycle_momentum=False, **names)
    expected = [rate for (rate,) in run_steps(other, reference, 19)]
    assert run_steps(optimizer, scheduler, 19) == [[pytest.approx(rate)] * 2 for rate in expected]


def test_the_state_of_the_cycle_is_data_and_resumes(tmp_path: Path) -> None:
    optimizer, scheduler = build_cycle(1e-2)
    run_steps(optimizer, scheduler, 9)
    torch.save({"optimizer": optimizer.state_dict(), "schedule": scheduler.state_dict()}, tmp_path / "state.pth")
    unbroken = run_steps(optimizer, scheduler, 8)
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    again, resumed = build_cycle(1e-2)
    again.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    assert run_steps(again, resumed, 8) == unbroken


def test_a_misspelt_key_of_the_cycle_is_found() -> None:
    config = {"default_scope": "proteus", "param_scheduler": {"type": "OneCycleLR", "eta_mx": 1e-4, "total_steps": 5}}
    with pytest.raises(ConfigError, match=r"eta_mx.*eta_max"):
        validate(config)
