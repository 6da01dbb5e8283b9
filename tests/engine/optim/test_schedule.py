import pytest
import torch
from mmengine.optim import OptimWrapper
from timm.scheduler import CosineLRScheduler
from torch import nn

from proteus.engine import DeiTCosineLR

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
    found = rates(wrapper(base), 300, iters_per_epoch=1)
    for epoch in range(300):
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
