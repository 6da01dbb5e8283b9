from collections.abc import Callable

import pytest
from mmengine.runner import Runner


def test_figures_of_each_step(make_runner: Callable[..., Runner]) -> None:
    runner = make_runner(train_cfg__max_iters=3)
    runner.train()
    scalars = {
        name: runner.message_hub.get_scalar(f"train/{name}").data[0]
        for name in ("time", "data_time", "images_per_s", "data_wait")
    }
    assert len(scalars["images_per_s"]) == 3
    for time, data, rate, wait in zip(*scalars.values(), strict=True):
        assert rate == pytest.approx(8 / time)
        assert wait == pytest.approx(data / time)
        assert 0 < wait < 1
