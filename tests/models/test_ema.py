import copy
from typing import Any

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from proteus.models import ForeachEMA
from proteus.registry import MODELS


def model() -> nn.Module:
    """Parameters of two dtypes, and buffers of floats and of integers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4).to(torch.bfloat16), nn.LayerNorm(4))


def move(source: nn.Module) -> None:
    with torch.no_grad():
        for value in source.state_dict().values():
            value.add_(torch.randn_like(value) if value.is_floating_point() else 1)


@pytest.mark.parametrize("options", [{}, {"update_buffers": True}, {"interval": 3}])
def test_it_is_mmengines_average(options: dict[str, Any]) -> None:
    source = model()
    ours, theirs = (
        ForeachEMA(source, momentum=0.1, **options),
        ExponentialMovingAverage(source, momentum=0.1, **options),
    )
    for _ in range(7):
        move(source)
        ours.update_parameters(source)
        theirs.update_parameters(source)
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.is_floating_point():
            assert torch.equal(found[name], value), name
    assert found["module.1.num_batches_tracked"] == 7  # the latest, not the first
    assert found["steps"] == 7


def test_the_first_weights_are_copied_and_the_second_averaged() -> None:
    source = nn.Linear(1, 1, bias=False)
    average = ForeachEMA(source, momentum=0.25)
    for value in (2.0, 6.0):
        nn.init.constant_(source.weight, value)
        average.update_parameters(source)
    assert average.module.weight.item() == 3.0


def test_the_warm_up_is_mmengines_annealing() -> None:
    source = model()
    ours, theirs = ForeachEMA(source, 0.3, gamma=2), MomentumAnnealingEMA(source, 0.3, gamma=2)
    for _ in range(9):  # from the fifth update on, momentum is larger than 2 / (2 + steps)
        move(source)
        ours.update_parameters(source)
        theirs.update_parameters(source)
    for name, value in theirs.module.named_parameters():
        torch.testing.assert_close(dict(ours.module.named_parameters())[name], value)


def test_with_a_warm_up_of_one_the_average_is_the_mean() -> None:
    source = nn.Linear(1, 1, bias=False)
    average = ForeachEMA(source, momentum=1e-4, gamma=1)
    for value in (3.0, 5.0, 10.0):
        nn.init.constant_(source.weight, value)
        average.update_parameters(source)
    assert average.module.weight.item() == pytest.approx(6.0)


def test_tensors_of_a_dtype_are_averaged_by_one_kernel() -> None:
    names: list[str] = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    source = model()
    average = ForeachEMA(source, momentum=0.1)
    average.update_parameters(source)
    with Names():
        average.update_parameters(source)
    assert names.count("_foreach_lerp_") == 2
    assert "lerp_" not in names


def test_it_resumes_bit_for_bit() -> None:
    source = model()
    unbroken = ForeachEMA(source, momentum=0.1)
    for _ in range(3):
        move(source)
        unbroken.update_parameters(source)
    resumed = ForeachEMA(model(), momentum=0.1)
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    move(source)
    for average in (unbroken, resumed):
        average.update_parameters(source)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_config_names_it() -> None:
    with DefaultScope.overwrite_default_scope("proteus"):
        hook = EMAHook(ema_type="ForeachEMA", momentum=0.1)
        average = MODELS.build(hook.ema_cfg, default_args={"model": model()})
    assert isinstance(average, ForeachEMA)
    assert average.momentum == 0.1


def test_it_may_lie_on_another_device() -> None:
    average = ForeachEMA(model(), device="meta")
    average.update_parameters(model())
    average.update_parameters(model())
    assert {value.device.type for value in average.module.state_dict().values()} == {"meta"}
    assert average.steps == 2  # counted where it can be read
